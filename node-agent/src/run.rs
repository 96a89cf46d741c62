//! `slash32-agent run`: starts the threads (reconcile, events) and the source of Nodes (a thread for a file, a task for
//! the API server), serves HTTP, ends on a signal. tokio runs on this one thread.

use crate::kubernetes::Kubernetes;
use crate::nodes::file;
use crate::problem::Problem;
use crate::reconcile::Reconciler;
use crate::settings::Settings;
use crate::status::Shared;
use crate::view::ClusterView;
use crate::wake::Waker;
use crate::{http, preflight};
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A pass under way may finish; then the process ends whatever it does.
const FAREWELL: Duration = Duration::from_secs(10);
/// Before the event socket is opened again.
const EVENTS_RETRY: Duration = Duration::from_secs(1);

/// Until a signal, or after one pass.
pub(crate) fn run(settings: Settings, once: bool) -> anyhow::Result<ExitCode> {
    let effective: Vec<String> = settings
        .effective()
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        settings = effective.join(" "),
        "slash32-agent starts"
    );
    let source = Source::from_settings(&settings)?;
    preflight::check(&settings)?;
    let settings = Arc::new(settings);
    let shared = Arc::new(Shared::new(Instant::now()));
    let reconciler = Reconciler::new(settings.clone(), shared.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime of HTTP server and client")?;
    if once {
        let view = runtime.block_on(source.read_view());
        return Ok(report(&reconciler.run_once(view)));
    }
    runtime.block_on(serve(&settings, shared, reconciler, source))
}

/// Where Nodes come from.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Api(Kubernetes),
}

impl Source {
    /// A file wins over the API server.
    fn from_settings(settings: &Settings) -> anyhow::Result<Source> {
        if let Some(path) = &settings.nodes_file {
            return Ok(Source::File(path.clone()));
        }
        match Kubernetes::from_settings(settings) {
            Ok(kubernetes) => Ok(Source::Api(kubernetes)),
            Err(problem) => bail!(problem.text),
        }
    }

    async fn read_view(&self) -> Result<ClusterView, Problem> {
        match self {
            Source::File(path) => file::read_view(path),
            Source::Api(kubernetes) => kubernetes.read_view().await,
        }
    }

    /// Feeds the waker until the process ends.
    fn start(self, waker: &Arc<Waker>, shared: &Arc<Shared>) -> anyhow::Result<()> {
        let (waker, shared) = (waker.clone(), shared.clone());
        match self {
            Source::File(path) => spawn("nodes-file", move || file::watch(path, waker)),
            Source::Api(kubernetes) => {
                tokio::spawn(kubernetes.run(waker, shared));
                Ok(())
            }
        }
    }
}

/// The log has told the problems; here is the sum.
fn report(problems: &[Problem]) -> ExitCode {
    if problems.is_empty() {
        tracing::info!("converged");
        return ExitCode::SUCCESS;
    }
    tracing::error!(problems = problems.len(), "not converged");
    ExitCode::FAILURE
}

async fn serve(
    settings: &Settings,
    shared: Arc<Shared>,
    reconciler: Reconciler,
    source: Source,
) -> anyhow::Result<ExitCode> {
    // Before any thread starts: a signal that comes early must not kill a pass half-way.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let listener = match settings.listen {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
            format!(
                "listen on {address} (setting listen: another address, or empty to turn it off)"
            )
        })?),
        None => None,
    };
    let waker = Arc::new(Waker::default());
    let done = start_threads(&waker, reconciler)?;
    source.start(&waker, &shared)?;
    let server = async {
        match listener {
            Some(listener) => axum::serve(listener, http::router(shared)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: ending, the kernel stays as it is"),
        _ = interrupt.recv() => tracing::info!("SIGINT: ending, the kernel stays as it is"),
        result = server => result.context("serve HTTP")?,
    }
    waker.stop();
    if tokio::time::timeout(FAREWELL, done).await.is_err() {
        tracing::warn!(
            "the pass under way did not end within {} s",
            FAREWELL.as_secs()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The receiver resolves when the reconcile thread has ended.
fn start_threads(
    waker: &Arc<Waker>,
    reconciler: Reconciler,
) -> anyhow::Result<tokio::sync::oneshot::Receiver<()>> {
    let (ended, done) = tokio::sync::oneshot::channel();
    let (for_events, for_reconcile) = (waker.clone(), waker.clone());
    spawn("events", move || watch_events(&for_events))?;
    spawn("reconcile", move || {
        reconciler.run(&for_reconcile);
        let _ = ended.send(());
    })?;
    Ok(done)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .with_context(|| format!("start the thread {name}"))?;
    Ok(())
}

/// Without events the agent is slow, not wrong: the slow timer still runs.
fn watch_events(waker: &Waker) {
    while !waker.is_stopped() {
        if let Err(error) = dataplane::events::watch(|event| waker.set_event(event)) {
            tracing::warn!("{error}; listening again in {} s", EVENTS_RETRY.as_secs());
        }
        // What happens until the next subscription is unknown.
        waker.set_event(dataplane::events::Event::Subscribed);
        waker.pause(EVENTS_RETRY);
    }
}
