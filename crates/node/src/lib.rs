//! A validator: engine, mempool, executor, store, history.
