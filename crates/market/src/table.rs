//! An ordered map that journals its writes, so that a block can be undone and its change set read.
//!
//! [`Table`] holds the rows of one record type; [`Row`] names a row's key and record. The first write of a key within a
//! block keeps the value from before; [`Table::seal`] hands those out when the block is complete.

use std::collections::BTreeMap;

use crate::records::Record;

/// A row of a table: knows its key and how it is stored.
pub(crate) trait Row: Clone + PartialEq + std::fmt::Debug {
    /// What it is found by.
    type Key: Ord + Copy + std::fmt::Debug;

    /// Returns the row's key.
    fn key(&self) -> Self::Key;
    /// Returns the row as it is stored.
    fn to_record(&self) -> Record;
}

/// Values from before a block, by key; `None` where there was no row.
pub(crate) type Before<R> = Vec<(<R as Row>::Key, Option<R>)>;

/// One table.
#[derive(Clone, Debug)]
pub(crate) struct Table<R: Row> {
    rows: BTreeMap<R::Key, R>,
    before: BTreeMap<R::Key, Option<R>>,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            before: BTreeMap::new(),
        }
    }
}

impl<R: Row> Table<R> {
    /// Returns the row with `key`.
    pub(crate) fn get(&self, key: R::Key) -> Option<&R> {
        self.rows.get(&key)
    }

    /// Returns the rows in key order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &R> {
        self.rows.values()
    }

    /// Writes or removes a row and journals it; returns what was there.
    pub(crate) fn write(&mut self, key: R::Key, row: Option<R>) -> Option<R> {
        let old = self.write_unjournaled(key, row);
        self.before.entry(key).or_insert_with(|| old.clone());
        old
    }

    /// Writes or removes a row without a journal entry: for loading and undoing.
    pub(crate) fn write_unjournaled(&mut self, key: R::Key, row: Option<R>) -> Option<R> {
        match row {
            Some(row) => self.rows.insert(key, row),
            None => self.rows.remove(&key),
        }
    }

    /// Ends the block: returns, in key order, the values from before of the rows that really differ now.
    pub(crate) fn seal(&mut self) -> Before<R> {
        let before = std::mem::take(&mut self.before);
        before
            .into_iter()
            .filter(|(key, old)| self.rows.get(key) != old.as_ref())
            .collect()
    }
}
