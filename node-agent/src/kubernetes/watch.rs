//! The watch of Nodes: a whole list once, then events from where it ended, for months. A watch that ends by itself is
//! resumed where it was; one that cannot be resumed (410, a server with another history) begins with a whole list
//! again; while nothing can be had the last view stands. kube-runtime's watcher is not used: docs/decisions/0005.

use super::access::Access;
use super::backoff::{Backoff, random};
use super::failure::{Failure, FailureKind};
use super::list::{self, ANSWER, Events, From};
use super::node::{ApiNode, OwnNode};
use super::store::Store;
use crate::metrics::KindLabel;
use crate::status::Shared;
use crate::wake::Waker;
use futures_util::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::core::WatchEvent;
use pacing::Pacing;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Sender;
use tokio::time::{Instant, timeout_at};

mod pacing;

/// The server ends a watch after this many seconds, and up to a minute more: agents that began together drift apart.
const WATCH_SECONDS: u32 = 240;
/// The API server sends a bookmark each minute: silence for longer says that nobody is there, whatever TCP says.
const SILENCE: Duration = Duration::from_secs(150);
/// A watch that lived for this long was a good one: the next failure is the first of its row.
const GOOD: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Answers of 5xx to a resumed watch after which a whole list is tried: some are about the version.
const RESUMES: u32 = 3;
/// On the bookmark after the last Node of a streamed list (KEP-3157).
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// The state of the source.
#[derive(Debug)]
pub(super) struct Watch {
    access: Access,
    own_name: Box<str>,
    waker: Arc<Waker>,
    shared: Arc<Shared>,
    own: Sender<Option<OwnNode>>,
    store: Store,
    /// Of the newest event; `None` where a whole list is needed.
    version: Option<Box<str>>,
    /// Lists come as a watch, which costs both sides less; false once the server did not know how.
    streaming: bool,
    /// Since when nothing can be had.
    outage: Option<Timestamp>,
    failed_resumes: u32,
    backoff: Backoff,
}

impl Watch {
    pub(super) fn new(
        access: Access,
        own_name: &str,
        waker: Arc<Waker>,
        shared: Arc<Shared>,
        own: Sender<Option<OwnNode>>,
    ) -> Watch {
        Watch {
            access,
            own_name: own_name.into(),
            waker,
            shared,
            own,
            store: Store::new(own_name),
            version: None,
            streaming: true,
            outage: None,
            failed_resumes: 0,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
        }
    }

    /// Until the process ends.
    pub(super) async fn run(mut self) {
        let mut client = None;
        while !self.waker.is_stopped() {
            let began = Instant::now();
            let result = self.attempt(&mut client).await;
            self.shared.metrics.api_up.set(0);
            let good = began.elapsed() >= GOOD;
            if good {
                self.backoff.reset();
            }
            match result {
                Ok(()) if good => continue,
                Ok(()) => {}
                Err(failure) => {
                    // Whatever was wrong with it: token, certificate and CA are read again.
                    client = None;
                    self.note(&failure);
                }
            }
            tokio::time::sleep(self.backoff.after_failure(random())).await;
        }
    }

    /// One watch from its beginning to its end. `Err` where it could not begin, or the server said why it ended.
    async fn attempt(&mut self, client: &mut Option<Client>) -> Result<(), Failure> {
        let client = match client {
            Some(client) => client,
            None => client.insert(self.access.connect().await?),
        };
        if self.outage.is_some() && self.version.is_some() {
            self.compare_history(client).await?;
        }
        let seconds = WATCH_SECONDS + (random() * 60.0) as u32;
        let events = match self.version.clone() {
            Some(version) => {
                let events = list::watch(client, From::Version(&version), seconds).await?;
                self.stand("resumed");
                events
            }
            None if self.streaming => {
                let mut events = list::watch(client, From::All, seconds).await?;
                let (store, version) = self.read_list(&mut events).await?;
                self.take_list(store, version);
                events
            }
            None => {
                let (store, version) = list::list(client, &self.own_name).await?;
                self.take_list(store, version.clone());
                list::watch(client, From::Version(&version), seconds).await?
            }
        };
        self.failed_resumes = 0;
        self.follow(events).await
    }

    /// A server that was set up anew, or restored from a backup, counts from the beginning: a watch from our version
    /// would wait there in silence until it is reached.
    async fn compare_history(&mut self, client: &Client) -> Result<(), Failure> {
        let newest = list::newest_version(client).await?;
        let number = |version: &str| version.parse::<u64>().ok();
        let ours = self.version.as_deref().and_then(number);
        if ours
            .zip(number(&newest))
            .is_some_and(|(ours, newest)| newest < ours)
        {
            tracing::info!(
                "the API server's history is another one now (version {newest}); reading all Nodes again"
            );
            self.version = None;
        }
        Ok(())
    }

    /// The list that a watch from [`From::All`] begins with.
    async fn read_list(&mut self, events: &mut Events) -> Result<(Store, Box<str>), Failure> {
        let mut store = Store::new(&self.own_name);
        loop {
            let Ok(event) = timeout_at(Instant::now() + ANSWER, events.next()).await else {
                // Perhaps a server that does not know of streamed lists, and waits for what will change.
                self.streaming = false;
                return Err(Failure::timeout(ANSWER));
            };
            match event {
                Some(Ok(WatchEvent::Added(node) | WatchEvent::Modified(node))) => {
                    store.apply(node);
                }
                Some(Ok(WatchEvent::Deleted(node))) => {
                    store.remove(&node.metadata.name);
                }
                Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                    if bookmark.metadata.annotations.contains_key(END_OF_LIST) {
                        return Ok((store, bookmark.metadata.resource_version.into()));
                    }
                }
                Some(Ok(WatchEvent::Error(status))) => return Err(Failure::of_status(&status)),
                Some(Err(error)) => return Err(Failure::of(&error)),
                None => {
                    return Err(Failure::new(
                        FailureKind::Unreachable,
                        "the connection ended in the middle of the list of Nodes",
                    ));
                }
            }
        }
    }

    fn take_list(&mut self, store: Store, version: Box<str>) {
        self.store = store;
        self.version = Some(version);
        self.stand("listed");
        self.waker.set_view(Ok(self.store.view()));
    }

    /// The watch stands: an outage is over.
    fn stand(&mut self, kind: &'static str) {
        let metrics = &self.shared.metrics;
        metrics.api_up.set(1);
        metrics.api_watches.get_or_create(&KindLabel { kind }).inc();
        if self.outage.take().is_some() {
            // The view is the old one until events say otherwise, and no problem stands against it any more.
            self.waker.set_view(Ok(self.store.view()));
        }
        // Also where it is the same: what could not be written in the meantime can be now.
        self.own.send_replace(self.store.own.clone());
    }

    /// Events until the watch ends. How it ended does not matter while the next one begins well.
    async fn follow(&mut self, mut events: Events) -> Result<(), Failure> {
        let mut heard = Instant::now();
        let mut pacing = Pacing::default();
        loop {
            let silent = heard + SILENCE;
            let deadline = pacing.due().map_or(silent, |due| due.min(silent));
            match timeout_at(deadline, events.next()).await {
                Err(_) if Instant::now() >= silent => {
                    tracing::info!("the watch of Nodes was silent for {} s", SILENCE.as_secs());
                    return Ok(());
                }
                Err(_) => {}
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => {
                    tracing::info!("the watch of Nodes broke: {error}");
                    return Ok(());
                }
                Ok(Some(Ok(event))) => {
                    heard = Instant::now();
                    if self.take(event)? {
                        pacing.note(heard);
                    }
                }
            }
            if let Some(since) = pacing.take(Instant::now()) {
                let began = Instant::now();
                self.waker
                    .set_view_of(Ok(self.store.view()), since.into_std());
                pacing.published(began, Instant::now());
            }
        }
    }

    /// True where the view is another one now.
    fn take(&mut self, event: WatchEvent<ApiNode>) -> Result<bool, Failure> {
        let (changed, version) = match event {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => {
                let version = node.metadata.resource_version.clone();
                (self.store.apply(node), version)
            }
            WatchEvent::Deleted(node) => (
                self.store.remove(&node.metadata.name),
                node.metadata.resource_version,
            ),
            WatchEvent::Bookmark(bookmark) => (false, bookmark.metadata.resource_version.into()),
            WatchEvent::Error(status) => return Err(Failure::of_status(&status)),
        };
        self.version = Some(version);
        self.own.send_if_modified(|own| {
            let changed = *own != self.store.own;
            own.clone_from(&self.store.own);
            changed
        });
        Ok(changed)
    }

    /// What a failure means for the next attempt, and whether the user is told.
    fn note(&mut self, failure: &Failure) {
        let kind = failure.kind.as_str();
        let errors = &self.shared.metrics.api_errors;
        errors.get_or_create(&KindLabel { kind }).inc();
        match failure.kind {
            FailureKind::Gone => {
                tracing::info!(
                    "what the watch of Nodes would resume from is gone; reading all Nodes again"
                );
                self.version = None;
                return;
            }
            FailureKind::Unsupported if self.streaming && self.version.is_none() => {
                tracing::info!("the API server streams no lists; reading Nodes by pages");
                self.streaming = false;
                return;
            }
            FailureKind::Server if self.version.is_some() => {
                self.failed_resumes += 1;
                if self.failed_resumes >= RESUMES {
                    self.version = None;
                }
            }
            _ => {}
        }
        let since = *self.outage.get_or_insert_with(Timestamp::now);
        let problem = failure.problem(self.access.url(), "watch nodes", Some(since));
        self.waker.set_view(Err(problem));
    }
}
