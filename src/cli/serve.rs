//! `spnas serve`: many searches side by side, steered and watched over HTTP.

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::Failure;
use super::signals::on_signals;
use crate::service::{self, Ending, Limits, Options, ServeError, TlsFiles, Token};

/// The variable with the token.
const TOKEN: &str = "SPNAS_TOKEN";

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
It says where it listens on standard output, and what it does on standard error. The page at / shows its searches, \
/v1/openapi.json all that can be asked for; docs/SERVICE.md tells the rest.

Ctrl-C or SIGTERM stops the searches at their next step and then the service; started again on the same folder, it goes on \
with them. A second one ends it at once.

Examples:
  spnas serve
  openssl rand -hex 32 >token && spnas serve --listen 0.0.0.0:8443 --token-file token --tls-cert cert.pem --tls-key key.pem")]
pub struct Serve {
    /// The folder with the searches
    #[arg(long, default_value = "runs")]
    folder: PathBuf,
    /// Where to listen; port 0 takes any
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A file with the token that clients must show [default: the variable SPNAS_TOKEN, or none on this machine only]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The certificate chain for TLS, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Most searches that run at a time
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=256))]
    max_running: u32,
    /// Most clients that watch events at a time
    #[arg(long, value_name = "N", default_value = "2048", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_watchers: u32,
    /// Most requests a second of one address; twice as many may come at once
    #[arg(long, value_name = "N", default_value = "100")]
    rate: NonZeroU32,
    /// Largest body of a request, in bytes
    #[arg(long, value_name = "BYTES", default_value = "2097152", value_parser = clap::value_parser!(u32).range(1_024..))]
    max_body: u32,
    /// Largest weights that a client of a study sends, in bytes
    #[arg(long, value_name = "BYTES", default_value = "268435456", value_parser = clap::value_parser!(u32).range(1_024..))]
    max_weights: u32,
}

impl Serve {
    /// Serves until it is told to end; where it listens goes to `out`.
    ///
    /// # Errors
    /// What keeps it from serving, or a stop while searches run.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let token = match (&self.token_file, std::env::var(TOKEN)) {
            (Some(file), _) => Some(Token::read(file).map_err(Failure::input)?),
            (None, Ok(text)) => Some(Token::new(&text).map_err(|error| Failure::input(format!("{TOKEN}: {error}")))?),
            (None, Err(_)) => None,
        };
        let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
        // A program that embeds this one may have set its own.
        let _ = log.try_init();
        let ending = Ending::default();
        let told = ending.clone();
        on_signals(move || told.begin()).map_err(Failure::internal)?;
        let options = Options {
            folder: self.folder.clone(),
            listen: self.listen,
            token,
            tls: self.tls_cert.zip(self.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
            limits: Limits {
                body: self.max_body as usize,
                weights: self.max_weights as usize,
                rate: self.rate,
                running: self.max_running as usize,
                watchers: self.max_watchers as usize,
            },
        };
        let mut said = Ok(());
        let served = service::serve(options, &ending, |address| {
            said = writeln!(out, "listening on {address}").and_then(|()| out.flush());
        });
        let left = served.map_err(|error| match error {
            ServeError::Server(_) => Failure::internal(error),
            error => Failure::input(error),
        })?;
        said?;
        match left {
            0 => Ok(()),
            left => {
                let searches = if left == 1 { "search goes" } else { "searches go" };
                let folder = self.folder.display();
                let why = format!("{left} {searches} on at the next start: spnas serve --folder {folder}");
                Err(Failure::Stopped(why.into()))
            }
        }
    }
}
