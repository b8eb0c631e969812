//! At the desk of a study: what the routes of trials have in common. A client is led to the desk, what it says to the trainer
//! that stands for it, and the answer back, once it is in the journal and known.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Payload};
use serde::de::DeserializeOwned;
use spnas_actors::{Attempt, Metrics, TrialId};
use tokio::sync::oneshot;

use crate::service::Service;
use crate::service::body;
use crate::service::folded::{FAILING, TrialView};
use crate::service::hosted::State;
use crate::service::problem::{Fault, Problem};
use crate::service::record::{Kind, SearchId};
use crate::service::study;
use crate::service::study::desk::{Answer, Desk, NotHeld, Said};

/// Most metrics in a report.
const METRICS: usize = 1_000;

/// How long a row may take from the journal to what is known of a search.
const SETTLING: Duration = Duration::from_millis(500);

/// How long a client waits for the answer of a trainer, which writes what it heard to the disk.
const ANSWER: Duration = Duration::from_secs(60);

/// What a client says of a trial of a study: where the study is met, and the body.
pub(super) async fn said<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    service: &Service,
    id: &SearchId,
) -> Result<(Arc<Desk>, T), Problem> {
    let desk = desk(service, id)?;
    Ok((desk, body::json(request, payload, service.limits.body).await?))
}

/// The desk of a study that runs.
pub(super) fn desk(service: &Service, id: &SearchId) -> Result<Arc<Desk>, Problem> {
    let hosted = service.registry.find(id)?;
    if hosted.record().kind != Kind::Study {
        return Err(Problem::not_found(format!("`{id}` is no study")));
    }
    match (hosted.desk(), hosted.state()) {
        (Some(desk), _) => Ok(desk),
        (None, State::Complete) => Err(Problem::gone("the study is complete")),
        (None, State::Running | State::Paused) => Err(Problem::busy("the study is just beginning")),
        (None, State::Stopped) if service.registry.is_closing() => Err(Problem::busy("the service is ending")),
        (None, State::Failed) => Err(Problem::conflict(format!("the study failed: `why` is at /v1/searches/{id}"))),
        (None, _) => Err(Problem::conflict("the study does not run: resume it first")),
    }
}

/// The desk of a study that may be just beginning, or just ending: what became of it is known in a moment.
pub(super) async fn open_desk(
    service: &Service,
    id: &SearchId,
    deadline: tokio::time::Instant,
) -> Result<Arc<Desk>, Problem> {
    let mut news = service.registry.find(id)?.ring().subscribe();
    loop {
        news.mark_unchanged();
        match desk(service, id) {
            Err(problem) if problem.is_busy() => {}
            Ok(desk) if desk.is_closed() => {}
            found => return found,
        }
        // Opening tells the ring, and so does the end.
        if tokio::time::timeout_at(deadline, news.changed()).await.is_err() {
            return desk(service, id);
        }
    }
}

pub(super) fn bounded(metrics: &Metrics) -> Result<(), Problem> {
    let unfit = |name: &String| name.is_empty() || name.len() > 200 || name.chars().any(char::is_control);
    match metrics.len() > METRICS || metrics.keys().any(unfit) {
        true => {
            let why = format!("at most {METRICS} metrics, each with a name of 1 to 200 characters");
            Err(Problem::faults("the metrics cannot be taken", vec![Fault::at("metrics", why)]))
        }
        false => Ok(()),
    }
}

pub(super) fn late() -> Problem {
    Problem::conflict("this lease is over: the trial has ended, or was given to another")
}

pub(super) fn not_held(why: NotHeld) -> Problem {
    match why {
        NotHeld::Nobody => late(),
        NotHeld::Another => Problem::conflict("another has this trial now: this lease is over, or is none"),
    }
}

/// Says something to the trainer that stands for the holder of a lease, and waits for the answer.
pub(super) async fn say(
    desk: &Desk,
    trial: u64,
    lease: &str,
    said: impl FnOnce(oneshot::Sender<Answer>) -> Said,
) -> Result<Answer, Problem> {
    let trainer = desk.holder(TrialId(trial), lease).map_err(not_held)?;
    let (reply, answer) = oneshot::channel();
    if let Err(error) = trainer.try_send(said(reply)) {
        return Err(match error.is_full() {
            true => Problem::busy("the trial is busy with an earlier request: one at a time"),
            false => late(),
        });
    }
    drop(trainer);
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(Answer::Refused(why))) => Err(Problem::faults("nothing has changed", vec![Fault::of(why)])),
        Ok(Ok(Answer::Broken(why))) => Err(Problem::internal(&std::io::Error::other(why))),
        Ok(Ok(answer)) => Ok(answer),
        // The trainer has ended the attempt before it heard this.
        Ok(Err(_)) => Err(late()),
        Err(_) => Err(Problem::busy("the trial does not answer")),
    }
}

/// Whether a report has what the study's rule judges by.
pub(super) fn judged(desk: &Desk, metrics: &Metrics) -> Result<(), Problem> {
    let missing: Vec<&String> = desk.judged().iter().filter(|name| !metrics.contains_key(*name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(unmeasured(missing)) }
}

fn unmeasured(missing: Vec<&String>) -> Problem {
    let fault = |name: &String| Fault::at(name, "this objective was not measured");
    Problem::faults("objectives are missing", missing.into_iter().map(fault).collect())
}

/// Whether `metrics` and what was reported before have all objectives.
pub(super) async fn complete(
    service: &Data<Service>,
    id: &SearchId,
    desk: &Desk,
    trial: u64,
    metrics: &Metrics,
) -> Result<(), Problem> {
    let here = desk.known(TrialId(trial));
    let hosted = service.registry.find(id)?;
    let mut news = hosted.ring().subscribe();
    loop {
        news.mark_unchanged();
        let hosted = hosted.clone();
        let look = move |_: &Service| {
            hosted.look(Some(study::STEP), |_, folded| {
                let reported = folded.state.trial(TrialId(trial)).map(|trial| &trial.metrics);
                let names = folded.objectives.iter().map(|objective| objective.name.clone());
                names.filter(|name| reported.is_none_or(|known| !known.contains_key(name))).collect::<Vec<_>>()
            })
        };
        // The fold is its follower's for as long as it takes rows in, and that of a study that is over may have to be read.
        let unknown = service.block(look).await?;
        let is_missing = |name: &&String| !metrics.contains_key(*name) && !here.metrics.contains(*name);
        let missing: Vec<&String> = unknown.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // A report of who had the trial before may still be on its way from the journal.
        if here.is_all || tokio::time::timeout(SETTLING, news.changed()).await.is_err() {
            return Err(unmeasured(missing));
        }
    }
}

/// Whether the end of an attempt is wholly known: the end of a training, or the failure of a last attempt, and the end of
/// its trial are two rows.
fn is_settled(view: &TrialView, attempt: Attempt) -> bool {
    match view.attempts.cmp(&attempt.0) {
        // What is known is older than the attempt.
        Ordering::Less => false,
        Ordering::Equal => !matches!(view.phase, "training" | "trained" | FAILING),
        Ordering::Greater => true,
    }
}

/// The trial once this attempt is over in the journal.
pub(super) async fn settled(
    service: &Data<Service>,
    id: &SearchId,
    trial: u64,
    end: Answer,
) -> Result<Json<TrialView>, Problem> {
    let Answer::Ended(attempt) = end else { return Err(late()) };
    let hosted = service.registry.find(id)?;
    let mut news = hosted.ring().subscribe();
    let deadline = tokio::time::Instant::now() + ANSWER;
    loop {
        news.mark_unchanged();
        let (hosted, number) = (hosted.clone(), trial);
        let look = move |_: &Service| hosted.look(Some(study::STEP), |step, folded| folded.trial(step, number));
        // One that is not known yet is on its way from the journal.
        match service.block(look).await? {
            Some(view) if is_settled(&view, attempt) => return Ok(Json(view)),
            _ => {}
        }
        if tokio::time::timeout_at(deadline, news.changed()).await.is_err() {
            return Err(Problem::busy("the trial does not settle"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::mpsc;

    use super::*;
    use crate::service::Limits;
    use crate::service::registry::{Registry, Wish};

    #[actix_web::test]
    async fn a_tell_that_waits_for_the_fold_leaves_the_thread_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path(), 1).unwrap();
        let limits = Limits { body: 1_000, weights: 1_000, rate: NonZeroU32::MIN, running: 1, watchers: 1 };
        let service = Data::new(Service::new(registry, limits, false));
        let hosted = service.registry.create(Wish::small_study("s")).unwrap();
        let mut news = hosted.ring().subscribe();
        while hosted.now().is_none() || hosted.desk().is_none() {
            news.changed().await.unwrap();
        }
        let (held, is_held) = mpsc::channel();
        let (free, is_freed) = mpsc::channel::<()>();
        let now = hosted.now().unwrap();
        let holder = std::thread::spawn(move || {
            let folded = now.folded();
            held.send(()).unwrap();
            let freed = is_freed.recv_timeout(Duration::from_secs(30)).is_ok();
            drop(folded);
            freed
        });
        is_held.recv().unwrap();
        let metrics = Metrics::default();
        let id = hosted.record().id;
        // The other gets its turn on this thread only while the first one waits.
        let desk = hosted.desk().unwrap();
        tokio::join!(async { complete(&service, &id, &desk, 1, &metrics).await.unwrap_err() }, async {
            free.send(()).ok()
        });
        assert!(holder.join().unwrap(), "the thread stood still");
        let end = |service: &Service| {
            service.registry.close();
            Ok(service.registry.join())
        };
        service.block(end).await.unwrap();
    }
}
