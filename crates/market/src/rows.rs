//! The tables: one per record type, declared once.
//!
//! [`Tables`] holds them, [`Stored`] ties a row type to its table and to the derived [`Index`], [`TablesBefore`] is one
//! block's journal.

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

/// A row type with its table and its part of the index.
pub(crate) trait Stored: Row + Indexed {
    /// Returns the row's table.
    fn table(tables: &Tables) -> &Table<Self>;
    /// Returns the row's table for writing.
    fn table_mut(tables: &mut Tables) -> &mut Table<Self>;
}

macro_rules! tables {
    ($($field:ident, $row:ident, $key:ty, |$r:ident| $get_key:expr, $to_record:expr;)*) => {
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
            /// Ends the block; returns its journal.
            pub(crate) fn seal(&mut self) -> TablesBefore {
                TablesBefore { $($field: self.$field.seal(),)* }
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
                    $(RecordId::$row(key) => self.write::<$row>(index, *key, None),)*
                }
            }

            /// Puts every row of the journal back as it was, outside the journal.
            pub(crate) fn restore(&mut self, index: &mut Index, before: TablesBefore) {
                $(for (key, old) in before.$field {
                    let new = self.$field.write_unjournaled(key, old);
                    Indexed::reindex(index, new.as_ref(), self.$field.get(key));
                })*
            }

            /// Lists what a journal says changed: each record's name and present content.
            pub(crate) fn changed(&self, before: &TablesBefore) -> Vec<(RecordId, Option<Record>)> {
                let mut changed = Vec::new();
                $(for (key, _) in &before.$field {
                    let now = self.$field.get(*key).map(Row::to_record);
                    changed.push((RecordId::$row(*key), now));
                })*
                changed
            }
        }
    };
}

tables! {
    signers, Signer, PublicKey, |r| r.key, Record::Signer(r);
    accounts, Account, AccountId, |r| r.id, Record::Account(r);
    references, Reference, Digest, |r| r.0, Record::Reference(r.0);
    redemptions, Redemption, RedemptionId, |r| r.id, Record::Redemption(r);
    providers, Provider, AccountId, |r| r.account, Record::Provider(r);
    machines, Machine, MachineId, |r| r.id, Record::Machine(Box::new(r));
    offers, Offer, OfferId, |r| r.id, Record::Offer(r);
    jobs, Job, JobId, |r| r.id, Record::Job(Box::new(r));
    orders, Order, OrderId, |r| r.id, Record::Order(r);
    bids, Bid, BidId, |r| r.id, Record::Bid(r);
    leases, Lease, LeaseId, |r| r.id, Record::Lease(Box::new(r));
    holds, Hold, JobId, |r| r.job, Record::Hold(r);
    payables, Payable, LeaseId, |r| r.lease, Record::Payable(r);
}

/// A used outside reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference(pub(crate) Digest);

impl Tables {
    /// Writes or removes a row, journaled and indexed.
    pub(crate) fn write<R: Stored>(&mut self, index: &mut Index, key: R::Key, row: Option<R>) {
        let old = R::table_mut(self).write(key, row);
        R::reindex(index, old.as_ref(), R::table(self).get(key));
    }

    /// Writes a record, journaled and indexed; hands a system record back.
    pub(crate) fn write_record(
        &mut self,
        index: &mut Index,
        record: Record,
    ) -> Option<Box<crate::records::System>> {
        match record {
            Record::System(r) => return Some(r),
            Record::Signer(r) => self.write(index, r.key(), Some(r)),
            Record::Account(r) => self.write(index, r.key(), Some(r)),
            Record::Reference(r) => self.write(index, r, Some(Reference(r))),
            Record::Redemption(r) => self.write(index, r.key(), Some(r)),
            Record::Provider(r) => self.write(index, r.key(), Some(r)),
            Record::Machine(r) => self.write(index, r.key(), Some(*r)),
            Record::Offer(r) => self.write(index, r.key(), Some(r)),
            Record::Job(r) => self.write(index, r.key(), Some(*r)),
            Record::Order(r) => self.write(index, r.key(), Some(r)),
            Record::Bid(r) => self.write(index, r.key(), Some(r)),
            Record::Lease(r) => self.write(index, r.key(), Some(*r)),
            Record::Hold(r) => self.write(index, r.key(), Some(r)),
            Record::Payable(r) => self.write(index, r.key(), Some(r)),
        }
        None
    }
}
