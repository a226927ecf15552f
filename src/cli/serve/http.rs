//! Requests in, answers out.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::api::{Api, Refused};
use super::reply::Reply;
use super::request::{Kind, Request};
use super::shape::now;

/// Bytes of a request at most.
const LARGEST: usize = 32 << 20;

/// Answers requests for as long as the program runs.
pub(super) fn serve(listener: TcpListener, api: Api) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener)?, router(Arc::new(api))).await })
}

fn router(api: Arc<Api>) -> Router {
    let closed = Router::new()
        .route("/v1/completions", post(|state, body| answer(state, body, Kind::Completion)))
        .route("/v1/chat/completions", post(|state, body| answer(state, body, Kind::Chat)))
        .route("/v1/models", get(models))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(LARGEST))
        .route_layer(from_fn_with_state(api.clone(), with_key));
    let missing = || async { Refused::with(StatusCode::NOT_FOUND, "there is no such path") };
    let wrong = || async { Refused::with(StatusCode::METHOD_NOT_ALLOWED, "the path has no such method") };
    closed.route("/health", get(health)).fallback(missing).method_not_allowed_fallback(wrong).with_state(api)
}

/// Lets through what has the key, where there is one.
async fn with_key(State(api): State<Arc<Api>>, request: HttpRequest, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
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

async fn models(State(api): State<Arc<Api>>) -> Response {
    let model = json!({
        "id": api.model, "object": "model", "created": now(), "owned_by": "wgquant", "max_model_len": api.context,
    });
    axum::Json(json!({ "object": "list", "data": [model] })).into_response()
}

/// Counters in Prometheus' text format.
async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let status = &api.status;
    let rows = [
        ("sequences_total", "counter", "Sequences asked for", &status.sequences),
        ("prompt_tokens_total", "counter", "Tokens of prompts", &status.prompt_tokens),
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
    let reader = api.clone();
    // A long text takes its tokenizer a while, a chat its template.
    let request = tokio::task::spawn_blocking(move || Request::read(&reader, kind, &body)).await;
    let request = request.map_err(|e| Refused::with(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))??;
    let reply = Reply::ask(&api, &request)?;
    if request.stream { Ok(reply.stream(request.include_usage)) } else { reply.whole().await }
}
