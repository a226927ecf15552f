//! Requests in, answers out.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use super::api::{Api, Refused};
use super::reply::Reply;
use super::request::{Kind, Request};
use super::shape::now;

/// For the head of a request, and between two of one connection.
const HEAD: Duration = Duration::from_secs(30);
/// Before connections are taken again after one could not be.
const AFTER_ERROR: Duration = Duration::from_millis(500);
/// Bytes of a request at most.
const LARGEST: usize = 32 << 20;

/// Answers requests for as long as the program runs.
pub(super) fn serve(listener: TcpListener, api: Api) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let service = TowerToHyperService::new(router(Arc::new(api)));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(answer_all(stream, service.clone()));
                }
                // Such as too many open files, of which some will be closed.
                Err(e) => {
                    log::warn!("a connection was not taken: {e}");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    })
}

/// Answers what comes by one connection. Whoever does not end the head of a request in time is let go, or sleepers would take all places.
async fn answer_all(stream: TcpStream, service: TowerToHyperService<Router>) {
    // Else a part of a stream waits until the one before has been acknowledged.
    let _ = stream.set_nodelay(true);
    let mut server = Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // What a client did wrong, or that it left.
    if let Err(e) = server.serve_connection(TokioIo::new(stream), service).await {
        log::debug!("a connection ended: {e}");
    }
}

fn router(api: Arc<Api>) -> Router {
    let closed = Router::new()
        .route("/v1/completions", post(|state, body| answer(state, body, Kind::Completion)))
        .route("/v1/chat/completions", post(|state, body| answer(state, body, Kind::Chat)))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(named))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(LARGEST))
        .route_layer(from_fn_with_state(api.clone(), with_key));
    let missing = || async { Refused::with(StatusCode::NOT_FOUND, "there is no such path") };
    let wrong = || async { Refused::with(StatusCode::METHOD_NOT_ALLOWED, "the path has no such method") };
    closed.route("/health", get(health)).fallback(missing).method_not_allowed_fallback(wrong).with_state(api)
}

/// Lets through what has the key, where there is one.
async fn with_key(State(api): State<Arc<Api>>, request: HttpRequest, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_start_matches(' '))
    });
    // Digests, so that the time it takes tells nothing.
    let right = |key: &String| given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(key));
    if api.key.as_ref().is_none_or(right) {
        return next.run(request).await;
    }
    Refused::with(StatusCode::UNAUTHORIZED, "no `Authorization: Bearer` with the right key").into_response()
}

async fn health(State(api): State<Arc<Api>>) -> Result<Response, Refused> {
    api.check()?;
    Ok(axum::Json(json!({ "status": "ok" })).into_response())
}

fn model(api: &Api) -> Value {
    json!({ "id": api.model, "object": "model", "created": now(), "owned_by": "wgquant", "max_model_len": api.context })
}

async fn models(State(api): State<Arc<Api>>) -> Response {
    axum::Json(json!({ "object": "list", "data": [model(&api)] })).into_response()
}

/// The one of that name, which may be of two words.
async fn named(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response, Refused> {
    if name != api.model {
        return Err(Refused::with(StatusCode::NOT_FOUND, format!("there is no model `{name}`, but `{}`", api.model)));
    }
    Ok(axum::Json(model(&api)).into_response())
}

/// Counters in Prometheus' text format.
async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let status = &api.status;
    let rows = [
        ("sequences_total", "counter", "Sequences asked for", &status.sequences),
        ("prompt_tokens_total", "counter", "Tokens of prompts", &status.prompt_tokens),
        ("cached_prompt_tokens_total", "counter", "Tokens of prompts that were not read anew", &status.cached_tokens),
        ("generated_tokens_total", "counter", "Tokens made", &status.generated_tokens),
        ("sequences_running", "gauge", "Sequences that are read or continued", &status.running),
        ("sequences_waiting", "gauge", "Sequences that wait", &status.waiting),
    ];
    let text: String = rows
        .map(|(name, kind, help, value)| {
            let value = value.load(Relaxed);
            format!("# HELP wgquant_{name} {help}\n# TYPE wgquant_{name} {kind}\nwgquant_{name} {value}\n")
        })
        .concat();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn answer(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
    kind: Kind,
) -> Result<Response, Refused> {
    api.check()?;
    let body = body.map_err(|e| Refused::with(e.status(), e.body_text()))?;
    let turn = api.readers.acquire().await.map_err(|e| internal(&e))?;
    let reader = api.clone();
    // A long text takes its tokenizer a while, a chat its template.
    let request = tokio::task::spawn_blocking(move || Request::read(&reader, kind, &body)).await;
    let request = request.map_err(|e| internal(&e))??;
    drop(turn);
    let reply = Reply::ask(&api, &request)?;
    if request.stream { Ok(reply.stream(request.include_usage)) } else { reply.whole().await }
}

fn internal(e: &dyn std::error::Error) -> Refused {
    Refused::with(StatusCode::INTERNAL_SERVER_ERROR, e.to_string())
}
