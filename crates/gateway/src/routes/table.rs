//! What an address is: the one place from which both the router and the API's description are made.

use api::{
    Code,
    view::text::{Form, Text},
};
use axum::{
    Router,
    handler::Handler,
    routing::{self, MethodRouter},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::server::App;

/// One method of one address.
pub(crate) struct Route {
    pub(crate) verb: Verb,
    /// As the router has it: `/api/v1/jobs/{id}`.
    pub(crate) path: &'static str,
    /// Name of the operation, for generated clients.
    pub(crate) name: &'static str,
    /// What it does, in one sentence.
    pub(crate) about: &'static str,
    pub(crate) params: Vec<Param>,
    pub(crate) body: Option<Body>,
    pub(crate) answers: Vec<Answer>,
    /// Problems of its own; those that every request may meet are not named.
    pub(crate) refuses: &'static [Code],
    handler: MethodRouter<App>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
}

/// A value in the path, the query or a header.
pub(crate) struct Param {
    pub(crate) place: Place,
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) form: ParamForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParamForm {
    Text(Form),
    Number,
    Flag,
}

/// Canonical bytes, or the same in hexadecimal in a field of a JSON object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    pub(crate) about: &'static str,
    pub(crate) field: &'static str,
    pub(crate) bytes_max: usize,
}

/// A good answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) about: &'static str,
    pub(crate) media_type: Option<&'static str>,
    pub(crate) schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

/// Any text.
const ANY: Form = Form::Pattern("^.+$");

pub(crate) fn get<H, T>(path: &'static str, name: &'static str, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    Route::new(Verb::Get, path, name, routing::get(handler))
}

pub(crate) fn post<H, T>(path: &'static str, name: &'static str, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    let route = Route::new(Verb::Post, path, name, routing::post(handler));
    route.param(
        Place::Header,
        "Idempotency-Key",
        "The same key with the same request gets the same answer for an hour; at most 128 visible characters",
        ParamForm::Text(Form::Pattern("^[!-~]{1,128}$")),
    )
}

pub(crate) fn put<H, T>(path: &'static str, name: &'static str, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    Route::new(Verb::Put, path, name, routing::put(handler))
}

impl Route {
    fn new(verb: Verb, path: &'static str, name: &'static str, handler: MethodRouter<App>) -> Self {
        Self {
            verb,
            path,
            name,
            about: "",
            params: Vec::new(),
            body: None,
            answers: Vec::new(),
            refuses: &[],
            handler,
        }
    }

    /// Adds the route to a router.
    pub(crate) fn serve(self, router: Router<App>) -> Router<App> {
        router.route(self.path, self.handler)
    }

    pub(crate) const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// An id in the path.
    pub(crate) fn id<T: Text>(self, name: &'static str, about: &'static str) -> Self {
        self.param(Place::Path, name, about, ParamForm::Text(T::FORM))
    }

    /// Another text in the path.
    pub(crate) fn text_in_path(self, name: &'static str, about: &'static str) -> Self {
        self.param(Place::Path, name, about, ParamForm::Text(ANY))
    }

    /// An id or another closed text in the query.
    pub(crate) fn query<T: Text>(self, name: &'static str, about: &'static str) -> Self {
        self.param(Place::Query, name, about, ParamForm::Text(T::FORM))
    }

    /// Any text in the query.
    pub(crate) fn query_text(self, name: &'static str, about: &'static str) -> Self {
        self.param(Place::Query, name, about, ParamForm::Text(ANY))
    }

    /// One of some words in the query.
    pub(crate) fn query_words(
        self,
        name: &'static str,
        about: &'static str,
        words: &'static [&'static str],
    ) -> Self {
        self.param(
            Place::Query,
            name,
            about,
            ParamForm::Text(Form::Words(words)),
        )
    }

    /// `true` or `false` in the query.
    pub(crate) fn query_flag(self, name: &'static str, about: &'static str) -> Self {
        self.param(Place::Query, name, about, ParamForm::Flag)
    }

    /// The two parameters of every list.
    pub(crate) fn paged(self) -> Self {
        self.query_text("after", "`next` of the page before").param(
            Place::Query,
            "limit",
            "Items of a page, from 1 to 1000; 100 by default",
            ParamForm::Number,
        )
    }

    /// A header of the request.
    pub(crate) fn header(self, name: &'static str, about: &'static str) -> Self {
        self.param(Place::Header, name, about, ParamForm::Text(ANY))
    }

    pub(crate) fn param(
        mut self,
        place: Place,
        name: &'static str,
        about: &'static str,
        form: ParamForm,
    ) -> Self {
        self.params.push(Param {
            place,
            name,
            about,
            form,
        });
        self
    }

    pub(crate) const fn takes(
        mut self,
        about: &'static str,
        field: &'static str,
        bytes_max: usize,
    ) -> Self {
        self.body = Some(Body {
            about,
            field,
            bytes_max,
        });
        self
    }

    /// The usual good answer: a view as JSON.
    pub(crate) fn json<T: JsonSchema>(self, about: &'static str) -> Self {
        self.answer::<T>(200, about)
    }

    pub(crate) fn answer<T: JsonSchema>(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            about,
            media_type: Some("application/json"),
            schema: Some(SchemaGenerator::subschema_for::<T>),
        });
        self
    }

    /// A good answer that is no JSON.
    pub(crate) fn other(
        mut self,
        status: u16,
        about: &'static str,
        media_type: Option<&'static str>,
    ) -> Self {
        self.answers.push(Answer {
            status,
            about,
            media_type,
            schema: None,
        });
        self
    }

    pub(crate) const fn refuses(mut self, codes: &'static [Code]) -> Self {
        self.refuses = codes;
        self
    }
}

impl Verb {
    /// Returns the method as the description has it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
        }
    }
}
