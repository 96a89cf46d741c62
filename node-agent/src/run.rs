//! `slash32-agent run`: starts the threads (reconcile, events, file of Nodes), serves HTTP, ends on a signal. tokio is
//! here and nowhere else, on one thread.

use crate::nodes::file;
use crate::reconcile::Reconciler;
use crate::settings::Settings;
use crate::status::Shared;
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
    let Some(nodes_file) = settings.nodes_file.clone() else {
        bail!(
            "no source of Nodes: set nodesFile (--nodes-file, SLASH32_NODES_FILE) to a file as 'kubectl get nodes -o yaml' prints it"
        );
    };
    preflight::check(&settings)?;
    let settings = Arc::new(settings);
    let shared = Arc::new(Shared::new(Instant::now()));
    let reconciler = Reconciler::new(settings.clone(), shared.clone());
    if once {
        return Ok(report(&reconciler.run_once(file::read_view(&nodes_file))));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the HTTP server's runtime")?;
    runtime.block_on(serve(&settings, shared, reconciler, nodes_file))
}

/// The log has told the problems; here is the sum.
fn report(problems: &[crate::problem::Problem]) -> ExitCode {
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
    nodes_file: PathBuf,
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
    let done = start_threads(&waker, reconciler, nodes_file)?;
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
    nodes_file: PathBuf,
) -> anyhow::Result<tokio::sync::oneshot::Receiver<()>> {
    let (ended, done) = tokio::sync::oneshot::channel();
    let (for_events, for_nodes, for_reconcile) = (waker.clone(), waker.clone(), waker.clone());
    spawn("events", move || watch_events(&for_events))?;
    spawn("nodes-file", move || file::watch(nodes_file, for_nodes))?;
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
