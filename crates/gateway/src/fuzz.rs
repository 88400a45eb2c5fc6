//! What the fuzz targets call: the parser of query strings, without a server.

use api::view::text::Text;
use market::{AccountId, JobId};

use crate::parse::Query;

/// Reads a text as a query, and takes from it every kind of value that routes take.
pub fn query(text: &str) {
    let Ok(mut query) = Query::parse(text) else {
        return;
    };
    drop(query.cut());
    drop(query.flag("live"));
    drop(query.number("wait"));
    survives(query.id::<JobId>("job").ok().flatten());
    survives(query.id::<AccountId>("account").ok().flatten());
    drop(query.text("kind"));
    drop(query.end());
}

fn survives<T: Text + PartialEq>(id: Option<T>) {
    if let Some(id) = id {
        assert!(
            T::from_text(&id.to_text()).is_some_and(|again| again == id),
            "an id does not survive its own text"
        );
    }
}
