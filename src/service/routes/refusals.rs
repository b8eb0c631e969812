//! What requests are refused with, for the document: the problems that several operations share, said once.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{Ref, RefOr};

type Refusals = BTreeMap<String, RefOr<Response>>;

/// Of what a query says of something that is looked at.
pub(crate) struct OfLook;

/// Of a body.
pub(crate) struct OfBody;

/// Of something to be made.
pub(crate) struct OfCreation;

/// Of a trial that one does not have, or not now.
pub(crate) struct OfLease;

/// Of a wish for a search.
pub(crate) struct OfWish;

/// What the guard refuses, whatever is asked for. Where a token is asked for, what is open to everyone needs none.
pub(super) fn of_guard(with_token: bool, is_open: bool) -> Refusals {
    let forbidden = "It comes from a page of another origin, or the service was reached by a name that is not its own";
    let mut all = vec![(429, "Too many requests of this address")];
    if !(with_token && is_open) {
        all.push((403, forbidden));
    }
    if with_token && !is_open {
        all.push((401, "It shows no token, or a wrong one"));
    }
    refusals(all)
}

/// What may happen to any request, of those with a body more.
pub(super) fn of_machine(has_body: bool) -> Refusals {
    let mut all = vec![(500, "The machine failed: the disk is full, or a file cannot be read")];
    if has_body {
        all.push((408, "The body came too slowly"));
    }
    refusals(all)
}

const MALFORMED: (u16, &str) = (400, "It cannot be read");
const MISSING: (u16, &str) = (404, "There is nothing of this name");
const BODY: [(u16, &str); 4] =
    [MALFORMED, (413, "It is too large"), (415, "It is of another type"), (422, "Every fault of it")];

impl IntoResponses for OfLook {
    fn responses() -> Refusals {
        refusals([MALFORMED, MISSING, (503, "Too much is being read: try again")])
    }
}

impl IntoResponses for OfBody {
    fn responses() -> Refusals {
        refusals(BODY)
    }
}

impl IntoResponses for OfCreation {
    fn responses() -> Refusals {
        refusals(BODY.into_iter().chain([(409, "The id is taken"), (503, "As many searches run as may")]))
    }
}

impl IntoResponses for OfLease {
    fn responses() -> Refusals {
        refusals([
            MISSING,
            (409, "The lease is over, or the study does not run"),
            (410, "The study is complete"),
            (503, "The study or the trial is busy: try again"),
        ])
    }
}

impl IntoResponses for OfWish {
    fn responses() -> Refusals {
        refusals([MISSING, (409, "It does not go with where the search stands"), (503, "For now it cannot be")])
    }
}

fn refusals(all: impl IntoIterator<Item = (u16, &'static str)>) -> Refusals {
    let content = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let refusal = |(status, why): (u16, &str)| {
        let response = ResponseBuilder::new().description(why).content("application/problem+json", content());
        (status.to_string(), RefOr::T(response.build()))
    };
    all.into_iter().map(refusal).collect()
}
