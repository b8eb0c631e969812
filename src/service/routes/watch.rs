//! Watching: the transitions of a search as server-sent events. What was missed is read from the journals in pages; what is new
//! comes from the ring. A watcher holds a place in both, never a queue of its own.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Bytes, Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse, get};
use futures_util::stream;
use serde::Deserialize;
use spnas_actors::journal::{JournalError, JournalReader};
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::IntoParams;

use super::refusals::OfLook;
use crate::service::Service;
use crate::service::follower::message;
use crate::service::hosted::{Hosted, State};
use crate::service::problem::Problem;
use crate::service::record::SearchId;
use crate::service::ring::{Cursor, Found};

/// How long nothing happens until a line says that the connection is alive.
const BEAT: Duration = Duration::from_secs(15);

/// How many rows of a journal are read at once.
const ROWS: usize = 256;

/// From where on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Since {
    /// `start` for everything that ever happened; from now on unless given. `Last-Event-ID` goes before it.
    #[param(example = "start")]
    from: Option<Beginning>,
}

#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Beginning {
    Start,
    Now,
}

/// Everything that happens to a search, as server-sent events: `id` is the step and the row in its journal, `event` what
/// happened, `data` the journal's row as JSON. `event: state` tells of the search itself, `event: lost` that this client was
/// too slow and how many events it has not got, `event: end` that nothing more comes. With `Last-Event-ID` the stream goes on
/// after that event. Where the search does not run and there is no event to send, the answer is 204.
#[utoipa::path(tag = "searches", params(
    ("id" = SearchId, Path), Since,
    ("Last-Event-ID" = Option<String>, Header, example = "serial:17"),
), responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = 204, description = "It does not run, and there is no event to send"),
    OfLook,
    (status = 503, description = "Too many watch, or too much is being read", body = Problem, content_type = "application/problem+json"),
))]
#[get("/v1/searches/{id}/events")]
pub(crate) async fn watch_events(
    request: HttpRequest,
    service: Data<Service>,
    id: Path<SearchId>,
    since: Query<Since>,
) -> Result<HttpResponse, Problem> {
    let hosted = service.registry.find(&id)?;
    let steps = hosted.record().steps;
    let last = request.headers().get("last-event-id").filter(|last| !last.is_empty());
    let last = match (last, since.from) {
        (Some(last), _) => Some(
            last.to_str()
                .ok()
                .and_then(|last| parse(last, &steps))
                .ok_or_else(|| Problem::malformed("`Last-Event-ID` is not the id of an event of this search"))?,
        ),
        (None, Some(Beginning::Start)) => Some(Cursor::default()),
        (None, Some(Beginning::Now) | None) => None,
    };
    let Ok(permit) = service.watchers.clone().try_acquire_owned() else {
        return Err(Problem::busy("as many clients watch as may"));
    };
    let ring = hosted.ring().clone();
    let position = match last {
        None => Position::Live(ring.end()),
        Some(cursor) => ring.after(cursor).map_or(Position::Journal(cursor), Position::Live),
    };
    let (news, closing) = (ring.subscribe(), service.closing.subscribe());
    let read = last.unwrap_or_default();
    let mut watcher =
        Watcher { hosted, steps, position, read, news, closing, at_end: false, said: false, _permit: permit };
    // Where a search does not run and there is nothing to send, the status says so; everyone else has an answer at once.
    let first = match watcher.hosted.is_running() {
        true => Some(Bytes::from_static(b": watching\n\n")),
        false => watcher.next().await,
    };
    if watcher.at_end && !watcher.said {
        return Ok(HttpResponse::NoContent().finish());
    }
    let rest = stream::unfold(watcher, |mut watcher| async { watcher.next().await.map(|piece| (piece, watcher)) });
    let pieces = futures_util::StreamExt::chain(stream::iter(first), rest);
    let pieces = futures_util::StreamExt::map(pieces, Ok::<Bytes, std::convert::Infallible>);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // Proxies that gather an answer before they pass it on would hold the stream up.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(pieces))
}

/// The place of an event by its id, `step:seq`.
fn parse(id: &str, steps: &[String]) -> Option<Cursor> {
    let (step, seq) = id.rsplit_once(':')?;
    let step = steps.iter().position(|known| known == step)?;
    let seq = seq.parse().ok().filter(|seq| i64::try_from(*seq).is_ok())?;
    Some(Cursor { step, seq })
}

/// Where a watcher is.
#[derive(Debug, Clone, Copy)]
enum Position {
    /// After this row of the journals.
    Journal(Cursor),
    /// At this place of the ring.
    Live(u64),
}

struct Watcher {
    hosted: Arc<Hosted>,
    steps: Vec<String>,
    position: Position,
    /// The last row that was read from the journals.
    read: Cursor,
    news: watch::Receiver<u64>,
    /// Closed when the service ends.
    closing: watch::Receiver<bool>,
    at_end: bool,
    /// Whether anything that happened has been sent.
    said: bool,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next piece of the stream; waits until there is one.
    async fn next(&mut self) -> Option<Bytes> {
        if self.at_end {
            return None;
        }
        loop {
            match self.position {
                Position::Journal(cursor) => {
                    // Before the look, so that what comes after it wakes.
                    self.news.mark_unchanged();
                    let (text, next) = match self.page(cursor).await {
                        Ok(page) => page,
                        Err(problem) => {
                            self.at_end = true;
                            let why = serde_json::to_string(&problem.to_string()).unwrap_or_default();
                            return Some(Bytes::from(format!("event: broken\ndata: {why}\n\n")));
                        }
                    };
                    self.position = next;
                    if let Position::Journal(read) = next {
                        self.read = read;
                    }
                    if !text.is_empty() {
                        self.said = true;
                        return Some(Bytes::from(text));
                    }
                    let waits = matches!(next, Position::Journal(next) if next == cursor);
                    if waits && let Some(piece) = self.wait().await {
                        return Some(piece);
                    }
                }
                Position::Live(next) => {
                    // Before the look, so that what comes after it wakes.
                    self.news.mark_unchanged();
                    // Also before it: what happened until the end is in the ring when it is over.
                    let is_over = !self.hosted.is_running();
                    match self.hosted.ring().take(next, self.read) {
                        Found::Events { text, next } => {
                            self.position = Position::Live(next);
                            if text.is_empty() {
                                continue;
                            }
                            self.said = true;
                            return Some(Bytes::from(text.concat()));
                        }
                        Found::Lost { events, next } => {
                            (self.position, self.said) = (Position::Live(next), true);
                            return Some(Bytes::from(format!("event: lost\ndata: {{\"events\":{events}}}\n\n")));
                        }
                        Found::Nothing if is_over || *self.closing.borrow() => return Some(self.end()),
                        Found::Nothing => {}
                    }
                    if let Some(piece) = self.wait().await {
                        return Some(piece);
                    }
                }
            }
        }
    }

    /// Waits for news; a piece to send where there are none for long, or never will be.
    async fn wait(&mut self) -> Option<Bytes> {
        let ended = tokio::select! {
            _ = self.news.changed() => return None,
            // A sender that is gone has closed it, too.
            _ = self.closing.wait_for(|closing| *closing) => true,
            () = tokio::time::sleep(BEAT) => false,
        };
        Some(if ended { self.end() } else { Bytes::from_static(b": alive\n\n") })
    }

    fn end(&mut self) -> Bytes {
        self.at_end = true;
        let state = self.hosted.state();
        // One who begins to watch a search of an earlier life of the service is told how it stands.
        let goes_on = self.hosted.record().goes_on();
        let ended = matches!(state, State::Complete | State::Failed | State::Stopped) && !goes_on;
        let state = serde_json::to_string(&state).unwrap_or_default();
        let retry = if ended { 60_000 } else { 2_000 };
        Bytes::from(format!("retry: {retry}\nevent: end\ndata: {{\"state\":{state},\"goes_on\":{goes_on}}}\n\n"))
    }

    /// What the journals hold after `cursor`, a page of it, and where to go on: at `cursor` again where nothing follows yet.
    async fn page(&self, cursor: Cursor) -> Result<(Vec<u8>, Position), Problem> {
        if let Some(next) = self.hosted.ring().after(cursor) {
            return Ok((Vec::new(), Position::Live(next)));
        }
        let Some(step) = self.steps.get(cursor.step).cloned() else {
            return Ok((Vec::new(), Position::Live(self.hosted.ring().end())));
        };
        let journal = self.hosted.journal(&step);
        // Before the look: nothing comes to a journal of which this is seen.
        let live = self.hosted.ring().end();
        let is_over = !self.hosted.is_running();
        let following = self.steps.get(cursor.step + 1).map(|step| self.hosted.journal(step));
        let read = actix_web::web::block(move || {
            let (text, seq) = read_page(&step, &journal, cursor.seq)?;
            Ok((text, seq, following.is_some_and(|journal| journal.is_file())))
        });
        let read = read.await.map_err(|_| Problem::busy("the service is ending"))?;
        let (text, seq, follows) = read.map_err(|error: JournalError| Problem::internal(&error))?;
        if seq > cursor.seq {
            return Ok((text, Position::Journal(Cursor { seq, ..cursor })));
        }
        // This step is read.
        let position = match self.hosted.ring().after(cursor) {
            _ if follows => Position::Journal(Cursor { step: cursor.step + 1, seq: 0 }),
            _ if is_over => Position::Live(live),
            Some(next) => Position::Live(next),
            None => Position::Journal(cursor),
        };
        Ok((text, position))
    }
}

/// At most [`ROWS`] rows after `seq` as events, and the last one's number.
fn read_page(step: &str, journal: &std::path::Path, seq: u64) -> Result<(Vec<u8>, u64), JournalError> {
    let reader = match JournalReader::open(journal) {
        Ok(reader) => reader,
        Err(JournalError::Absent { .. }) => return Ok((Vec::new(), seq)),
        Err(error) => return Err(error),
    };
    let (mut text, mut last) = (Vec::new(), seq);
    for row in reader.read_after(seq).take(ROWS) {
        let row = row?;
        text.extend_from_slice(&message(step, &row));
        last = row.seq;
    }
    Ok((text, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_event_is_its_place() {
        let steps = ["nas1".to_owned(), "serial".to_owned()];
        assert_eq!(parse("serial:17", &steps), Some(Cursor { step: 1, seq: 17 }));
        for bad in ["", "serial", "serial:", "serial:-1", "other:1", "serial:18446744073709551615", "../x:1"] {
            assert_eq!(parse(bad, &steps), None, "{bad}");
        }
    }
}
