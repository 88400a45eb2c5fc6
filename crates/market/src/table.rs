//! An ordered map that journals its writes, so that a block can be undone and its change set read.
//!
//! [`Table`] holds the rows of one record type; [`Row`] names a row's key and record. The first write of a key within a
//! block keeps the value from before; [`Table::seal`] hands those out when the block is complete.
//!
//! Rows are numbered: the map holds numbers, the rows lie beside it. With each stands the block that journaled it last, so
//! that a row that is written again in the same block costs one look, and the journal finds its rows without any.

use crate::{
    index::Indexed,
    records::Record,
    spread::{Even, Spread},
};

/// A row of a table: knows its key and how it is stored.
pub(crate) trait Row: Indexed + Clone + PartialEq + std::fmt::Debug {
    /// What it is found by.
    type Key: Even;

    /// Returns the row's key.
    fn key(&self) -> Self::Key;
    /// Returns the row as it is stored.
    fn to_record(&self) -> Record;
    /// Returns the bytes of [`Row::to_record`], without making it.
    fn encode(&self) -> Vec<u8>;
}

/// What a key had before a block.
#[derive(Clone, Debug)]
pub(crate) struct Was<R: Row> {
    pub(crate) key: R::Key,
    /// Number of its row, unless it was removed since.
    at: u32,
    /// `None` where there was no row.
    pub(crate) row: Option<Box<R>>,
}

/// The values from before a block.
pub(crate) type Before<R> = Vec<Was<R>>;

/// One table.
#[derive(Clone, Debug)]
pub(crate) struct Table<R: Row> {
    places: Spread<R::Key>,
    slots: Vec<Slot<R>>,
    /// Numbers of the empty slots.
    free: Vec<u32>,
    before: Before<R>,
    /// Numbers the blocks, so that a slot can say in which it was journaled; never 0.
    block: u64,
    /// Whether a row was removed in this block; if it comes back, its key is in the journal twice.
    removed: bool,
}

#[derive(Clone, Debug)]
struct Slot<R> {
    row: Option<R>,
    /// The block that journaled it last; 0 for none.
    block: u64,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        Self {
            places: Spread::default(),
            slots: Vec::new(),
            free: Vec::new(),
            before: Vec::new(),
            block: 1,
            removed: false,
        }
    }
}

impl<R: Row> Table<R> {
    /// Returns the row with `key`.
    pub(crate) fn get(&self, key: R::Key) -> Option<&R> {
        self.at(self.places.get(key)?)
    }

    /// Returns the rows in key order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &R> {
        self.places.iter().filter_map(|at| self.at(at))
    }

    fn at(&self, at: u32) -> Option<&R> {
        self.slots.get(index(at))?.row.as_ref()
    }

    /// Returns a row to be changed in place; it is journaled.
    pub(crate) fn edit(&mut self, key: R::Key) -> Option<&mut R> {
        let at = self.places.get(key)?;
        let slot = self.slots.get_mut(index(at))?;
        let row = slot.row.as_mut()?;
        if std::mem::replace(&mut slot.block, self.block) != self.block {
            let row = Some(Box::new(row.clone()));
            self.before.push(Was { key, at, row });
        }
        Some(row)
    }

    /// Writes a row and journals it; returns the marks of what was there.
    pub(crate) fn put(&mut self, row: R) -> Option<R::Marks> {
        let key = row.key();
        if let Some(old) = self.edit(key) {
            let marks = old.marks();
            *old = row;
            return Some(marks);
        }
        let at = self.insert(key, row, self.block);
        self.before.push(Was { key, at, row: None });
        None
    }

    /// Removes a row and journals it; returns the marks of what was there.
    pub(crate) fn remove(&mut self, key: R::Key) -> Option<R::Marks> {
        let at = self.places.remove(key)?;
        let slot = self.slots.get_mut(index(at))?;
        let row = slot.row.take()?;
        self.free.push(at);
        self.removed = true;
        let marks = row.marks();
        if slot.block != self.block {
            let row = Some(Box::new(row));
            self.before.push(Was { key, at, row });
        }
        Some(marks)
    }

    fn insert(&mut self, key: R::Key, row: R, block: u64) -> u32 {
        let slot = Slot {
            row: Some(row),
            block,
        };
        let next = u32::try_from(self.slots.len()).expect("a table has fewer than 2^32 rows");
        let at = self.free.pop().unwrap_or(next);
        match self.slots.get_mut(index(at)) {
            Some(empty) => *empty = slot,
            None => self.slots.push(slot),
        }
        self.places.insert(key, at);
        at
    }

    /// Puts a value of a journal back, outside the journal; returns the marks of what it replaced.
    pub(crate) fn restore(&mut self, was: Was<R>) -> Option<R::Marks> {
        let marks = self.remove(was.key);
        self.removed = false;
        self.before.clear();
        if let Some(row) = was.row {
            self.insert(was.key, *row, 0);
        }
        marks
    }

    /// Ends the block: returns the values from before of the rows that really differ now, each once; tells of each what
    /// it is now.
    pub(crate) fn seal(&mut self, mut changed: impl FnMut(R::Key, Option<&R>)) -> Before<R> {
        let mut before = std::mem::take(&mut self.before);
        self.block = self.block.wrapping_add(1);
        let removed = std::mem::take(&mut self.removed);
        if removed {
            // The sort is stable: of a key's values the oldest is first and stays.
            before.sort_by_key(|was| was.key);
            before.dedup_by_key(|was| was.key);
        }
        before.retain(|was| {
            let now = if removed {
                self.get(was.key)
            } else {
                self.at(was.at)
            };
            let differs = now != was.row.as_deref();
            if differs {
                changed(was.key, now);
            }
            differs
        });
        before
    }
}

/// Returns a row number as an index.
fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
