//! State sync from nobody: a single validator has no peer to fetch its state from, and never asks.
//!
//! The engine's own resolver decodes only operations that need no codec configuration, which those with variable values
//! have not, so several validators will need a resolver of ours as well.

use std::{convert::Infallible, future::pending, marker::PhantomData};

use commonware_glue::stateful::db::{AttachableResolver, Shared};
use commonware_runtime::Spawner;
use commonware_storage::{
    Context, mmr,
    qmdb::{
        any::ordered::variable::Operation,
        sync::source::{self, Request, Source},
    },
};
use light::{Digest, Value};

use crate::state::Db;

/// Knows no peer.
pub(crate) struct NoSync<E>(PhantomData<fn(E)>);

impl<E> NoSync<E> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Clone for NoSync<E> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<E: 'static> Source for NoSync<E> {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = Operation<mmr::Family, Digest, Value>;
    type Error = Infallible;

    async fn serve(&self, _: Request<mmr::Family>) -> source::Result<Self> {
        pending().await
    }
}

impl<E: Spawner + Context> AttachableResolver<Db<E>> for NoSync<E> {
    async fn attach_database(&self, _: Shared<Db<E>>) {}
}
