//! A search inside a web server of one's own: `cargo run -p spnas-actors --example embed_in_actix_web`, then
//! `curl localhost:8081/` for where it stands, `curl -N localhost:8081/events` for what happens, and
//! `curl -X POST localhost:8081/pause` (`resume`, `drain`, `stop`). The server ends with the search.
//!
//! The engine has threads of its own and the server another runtime: they meet at a `Remote`, which blocks for a moment and
//! so is used on a thread that may, and at a `watch`, which loses the oldest for whoever is too slow.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Bytes, Data, Path, block};
use actix_web::{App, HttpResponse, HttpServer, get, post};
use futures_util::stream;
use rand_chacha::rand_core::Rng;
use spnas_actors::device::{Device, Place};
use spnas_actors::event::Transition;
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::{
    Command, Epoch, Objective, Progress, Remote, Search, SearchSpace, TrainJob, TrainTrial, Trained, TrialError,
    metrics,
};
use tokio::sync::broadcast::{self, error::RecvError};

/// Numbers, of which the nearest to a million is looked for.
struct Numbers;
impl SearchSpace for Numbers {
    type Candidate = u32;
    fn sample(&self, rng: &mut SearchRng) -> u32 {
        rng.next_u32() % 2_000_000
    }
    fn mutate(&self, _: &u32, rng: &mut SearchRng) -> u32 {
        self.sample(rng)
    }
    fn key(&self, number: &u32) -> String {
        number.to_string()
    }
}

struct Slow;
impl TrainTrial for Slow {
    type Candidate = u32;
    fn train(&mut self, job: &TrainJob<u32>, progress: &mut Progress) -> Result<Trained, TrialError> {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(25));
            progress.step()?;
        }
        let metrics = metrics([("distance", f64::from(job.candidate.abs_diff(1_000_000)))])?;
        Ok(Trained { weights: progress.save(Vec::new())?, metrics })
    }
}

/// What the server's threads share.
struct Shared {
    remote: Remote,
    /// A sender whose receivers are made one a client.
    sender: broadcast::Sender<Arc<Transition>>,
}

#[get("/")]
async fn stands(shared: Data<Shared>) -> actix_web::Result<HttpResponse> {
    let snapshot = block(move || shared.remote.snapshot()).await?;
    Ok(snapshot.map_or_else(|| HttpResponse::Gone().body("the search is over"), |now| HttpResponse::Ok().json(now)))
}

#[post("/{command}")]
async fn steer(shared: Data<Shared>, command: Path<String>) -> actix_web::Result<HttpResponse> {
    let command = match command.as_str() {
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "drain" => Command::Drain,
        "stop" => Command::Stop,
        _ => return Ok(HttpResponse::NotFound().finish()),
    };
    let taken = block(move || shared.remote.send(command)).await?;
    Ok(if taken { HttpResponse::Accepted() } else { HttpResponse::Gone() }.finish())
}

#[get("/events")]
async fn events(shared: Data<Shared>) -> HttpResponse {
    let pieces = stream::unfold(shared.sender.subscribe(), |mut transitions| async {
        let text = match transitions.recv().await {
            Ok(now) => format!("event: {}\ndata: {{\"trial\":{}}}\n\n", now.event.kind(), now.trial),
            Err(RecvError::Lagged(lost)) => format!("event: lost\ndata: {lost}\n\n"),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok::<_, actix_web::Error>(Bytes::from(text)), transitions))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(pieces)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let trials = std::env::args().nth(1).map_or(Ok(200), |trials| trials.parse())?;
    let search = Search::new([Objective::minimise("distance")], trials, Epoch(1))
        .sampler(|| RandomSampler::new(Numbers.into()))
        .trainers((0..2).map(|index| Device::new(Place::Cpu { index }, 1)), |_| Ok(Slow))
        .start()?;
    let (sender, _) = broadcast::channel(64);
    let (mut transitions, passes_on) = (search.watch(), sender.clone());
    actix_web::rt::spawn(async move {
        loop {
            match transitions.recv().await {
                // Nobody may be listening.
                Ok(transition) => _ = passes_on.send(transition),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
    });
    let shared = Data::new(Shared { remote: search.remote(), sender });
    let server =
        HttpServer::new(move || App::new().app_data(shared.clone()).service(stands).service(events).service(steer))
            .workers(1)
            .shutdown_timeout(1)
            .bind("127.0.0.1:8081")?
            .run();
    let handle = server.handle();
    let serving = actix_web::rt::spawn(server);
    let outcome = block(move || search.wait()).await??;
    handle.stop(true).await;
    serving.await??;
    println!("{:?}: {:?}", outcome.end, outcome.counts);
    for found in outcome.front {
        println!("trial {} found {}", found.trial, found.key);
    }
    Ok(())
}
