//! The tables: one per record type, declared once.
//!
//! [`Tables`] holds them, [`Stored`] ties a row type to its table and to the derived [`Index`], [`TablesBefore`] is one
//! block's journal.

use borsh::BorshSerialize;

use crate::{
    codec::{Digest, PublicKey},
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId, RedemptionId},
    index::{Index, Indexed},
    records::{
        Account, Bid, Hold, Job, Lease, Machine, Offer, Order, Payable, Provider, Record, RecordId,
        Redemption, Signer,
    },
    table::{Before, Row, Table},
};

/// A changed record's name and its encoding now; `None` when it was removed.
pub(crate) type Changed = (RecordId, Option<Vec<u8>>);

/// A row type with its table and its part of the index.
pub(crate) trait Stored: Row {
    /// Returns the row's table.
    fn table(tables: &Tables) -> &Table<Self>;
    /// Returns the row's table for writing.
    fn table_mut(tables: &mut Tables) -> &mut Table<Self>;
}

macro_rules! tables {
    ($($tag:literal $field:ident, $row:ident, $key:ty, |$r:ident| $get_key:expr, $to_record:expr;)*) => {
        /// Every table but the one-row system record.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Tables {
            $(pub(crate) $field: Table<$row>,)*
        }

        /// Values from before one block.
        #[derive(Clone, Debug)]
        pub(crate) struct TablesBefore {
            $(pub(crate) $field: Before<$row>,)*
        }

        $(
            impl Row for $row {
                type Key = $key;

                fn key(&self) -> $key {
                    let $r = self;
                    $get_key
                }

                fn to_record(&self) -> Record {
                    let $r = self.clone();
                    $to_record
                }

                fn encode(&self) -> Vec<u8> {
                    tagged($tag, self)
                }
            }

            impl Stored for $row {
                fn table(tables: &Tables) -> &Table<Self> {
                    &tables.$field
                }

                fn table_mut(tables: &mut Tables) -> &mut Table<Self> {
                    &mut tables.$field
                }
            }
        )*

        impl Tables {
            /// Ends the block; returns its journal, and each changed record's name and encoding.
            pub(crate) fn seal(&mut self) -> (TablesBefore, Vec<Changed>) {
                let mut changes = Vec::new();
                let before = TablesBefore {
                    $($field: self.$field.seal(|key, now| {
                        changes.push((RecordId::$row(key), now.map(Row::encode)));
                    }),)*
                };
                (before, changes)
            }

            /// Returns every record but the system's.
            pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
                let none = std::iter::empty();
                $(let none = none.chain(self.$field.iter().map(Row::to_record));)*
                none
            }

            /// Returns the record with this name; the system's is not here.
            pub(crate) fn record(&self, id: &RecordId) -> Option<Record> {
                match id {
                    RecordId::System => None,
                    $(RecordId::$row(key) => self.$field.get(*key).map(Row::to_record),)*
                }
            }

            /// Removes the record with this name.
            pub(crate) fn remove(&mut self, index: &mut Index, id: &RecordId) {
                match id {
                    RecordId::System => {}
                    $(RecordId::$row(key) => self.delete::<$row>(index, *key),)*
                }
            }

            /// Puts every row of the journal back as it was, outside the journal.
            pub(crate) fn restore(&mut self, index: &mut Index, before: TablesBefore) {
                $(for was in before.$field {
                    let key = was.key;
                    let marks = self.$field.restore(was);
                    Indexed::reindex(index, marks.as_ref(), self.$field.get(key));
                })*
            }
        }

        impl TablesBefore {
            /// Returns the names of the records that the block changed.
            pub(crate) fn names(&self) -> Vec<RecordId> {
                let mut names = Vec::new();
                $(names.extend(self.$field.iter().map(|was| RecordId::$row(was.key)));)*
                names
            }
        }
    };
}

tables! {
    1 signers, Signer, PublicKey, |r| r.key, Record::Signer(r);
    2 accounts, Account, AccountId, |r| r.id, Record::Account(r);
    3 references, Reference, Digest, |r| r.0, Record::Reference(r.0);
    4 redemptions, Redemption, RedemptionId, |r| r.id, Record::Redemption(r);
    5 providers, Provider, AccountId, |r| r.account, Record::Provider(r);
    6 machines, Machine, MachineId, |r| r.id, Record::Machine(Box::new(r));
    7 offers, Offer, OfferId, |r| r.id, Record::Offer(r);
    8 jobs, Job, JobId, |r| r.id, Record::Job(Box::new(r));
    9 orders, Order, OrderId, |r| r.id, Record::Order(r);
    10 bids, Bid, BidId, |r| r.id, Record::Bid(r);
    11 leases, Lease, LeaseId, |r| r.id, Record::Lease(Box::new(r));
    12 holds, Hold, JobId, |r| r.job, Record::Hold(r);
    13 payables, Payable, LeaseId, |r| r.lease, Record::Payable(r);
}

/// A used outside reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize)]
pub(crate) struct Reference(pub(crate) Digest);

/// Returns a record's bytes: its tag, which is its place in [`Record`], and the row.
fn tagged(tag: u8, row: &impl BorshSerialize) -> Vec<u8> {
    /// Most records are shorter.
    const USUAL_BYTES: usize = 256;
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.push(tag);
    let written = row.serialize(&mut bytes);
    written.expect("encoding to memory does not fail");
    bytes
}

impl Tables {
    /// Writes a row, journaled and indexed.
    pub(crate) fn put<R: Stored>(&mut self, index: &mut Index, row: R) {
        let key = row.key();
        let was = R::table_mut(self).put(row);
        R::reindex(index, was.as_ref(), R::table(self).get(key));
    }

    /// Changes a row in place, journaled and indexed; `None` when there is none.
    pub(crate) fn edit<R: Stored, T>(
        &mut self,
        index: &mut Index,
        key: R::Key,
        change: impl FnOnce(&mut R) -> T,
    ) -> Option<T> {
        let row = R::table_mut(self).edit(key)?;
        let was = row.marks();
        let result = change(row);
        R::reindex(index, Some(&was), Some(row));
        Some(result)
    }

    /// Removes a row, journaled and indexed.
    pub(crate) fn delete<R: Stored>(&mut self, index: &mut Index, key: R::Key) {
        let was = R::table_mut(self).remove(key);
        R::reindex(index, was.as_ref(), None);
    }

    /// Writes a record, journaled and indexed; hands a system record back.
    pub(crate) fn write_record(
        &mut self,
        index: &mut Index,
        record: Record,
    ) -> Option<Box<crate::records::System>> {
        match record {
            Record::System(r) => return Some(r),
            Record::Signer(r) => self.put(index, r),
            Record::Account(r) => self.put(index, r),
            Record::Reference(r) => self.put(index, Reference(r)),
            Record::Redemption(r) => self.put(index, r),
            Record::Provider(r) => self.put(index, r),
            Record::Machine(r) => self.put(index, *r),
            Record::Offer(r) => self.put(index, r),
            Record::Job(r) => self.put(index, *r),
            Record::Order(r) => self.put(index, r),
            Record::Bid(r) => self.put(index, r),
            Record::Lease(r) => self.put(index, *r),
            Record::Hold(r) => self.put(index, r),
            Record::Payable(r) => self.put(index, r),
        }
        None
    }
}
