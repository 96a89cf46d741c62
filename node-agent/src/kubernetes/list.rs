//! Requests for Nodes: a whole list by pages, or a watch, with or without the list in front. Used by `watch`, and by
//! `run --once`.

use super::failure::Failure;
use super::node::{ApiNode, ApiNodeList};
use super::store::Store;
use futures_util::stream::{BoxStream, StreamExt};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use std::time::Duration;

/// Of connection, TLS, and the first byte of an answer together.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// Nodes of a page: whole pages are held as text while they are read, 6 KB a Node.
const PAGE: u32 = 100;

/// Events as they come; it ends when the server or the connection does.
pub(super) type Events = BoxStream<'static, kube::Result<WatchEvent<ApiNode>>>;

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From<'a> {
    /// With all Nodes as they are now, then a bookmark that says so (streaming lists).
    All,
    /// After this resource version.
    Version(&'a str),
}

fn nodes() -> Request {
    Request::new("/api/v1/nodes")
}

/// All Nodes and the version of the list.
pub(super) async fn list(client: &Client, own_name: &str) -> Result<(Store, Box<str>), Failure> {
    let mut store = Store::new(own_name);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = page(client, &params).await?;
        for node in page.items {
            store.apply(node);
        }
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) => params.continue_token = Some(next),
            None => return Ok((store, page.metadata.resource_version)),
        }
    }
}

/// The server's newest resource version of Nodes, for the price of one Node.
pub(super) async fn newest_version(client: &Client) -> Result<Box<str>, Failure> {
    let page = page(client, &ListParams::default().limit(1)).await?;
    Ok(page.metadata.resource_version)
}

async fn page(client: &Client, params: &ListParams) -> Result<ApiNodeList, Failure> {
    let request = nodes()
        .list(params)
        .map_err(|error| Failure::of(&kube::Error::BuildRequest(error)))?;
    within_patience(client.request::<ApiNodeList>(request)).await
}

/// Begins a watch that the server ends after `seconds`.
pub(super) async fn watch(
    client: &Client,
    from: From<'_>,
    seconds: u32,
) -> Result<Events, Failure> {
    let params = WatchParams {
        bookmarks: true,
        send_initial_events: from == From::All,
        ..WatchParams::default().timeout(seconds)
    };
    // No version means the newest state, read through to etcd. "0" would allow an API server that lags behind to show
    // a cluster of the past, in which new Nodes are missing: their routes would be taken away.
    let version = match from {
        From::All => "",
        From::Version(version) => version,
    };
    let request = nodes()
        .watch(&params, version)
        .map_err(|error| Failure::of(&kube::Error::BuildRequest(error)))?;
    let stream = within_patience(client.request_events::<ApiNode>(request)).await?;
    Ok(stream.boxed())
}

/// A failure after `ANSWER`, so that no request can hang for ever.
pub(super) async fn within_patience<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(result) => result.map_err(|error| Failure::of(&error)),
        Err(_) => Err(Failure::timeout(ANSWER)),
    }
}
