//! The simulated authorization server: its routes, and the faults of a script.
//!
//! Owns the way of a request from an accepted connection, with TLS if wanted, to one of the
//! endpoints, and of the answer back.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::limits;
use crate::sim::Shared;
use crate::sim::fault::{Answer, Fault, Point};
use crate::sim::http_line::{Accepted, Io, Line, Manner, Stream};
use crate::sim::script::{Due, Moment};
use crate::sim::{authorize, device, token_endpoint};

/// Connections that have been accepted and wait for their turn.
const ACCEPTED: usize = 64;

/// Bytes of a request's body.
const REQUEST_BYTES: usize = 65_536;

/// Serves until `stop`; ends when every connection has ended.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let (sender, receiver) = mpsc::channel(ACCEPTED);
    let address = listener.local_addr();
    tasks.spawn(accept(listener, Arc::clone(&shared), sender, stop.clone(), tasks.clone()));
    let routes = Router::new()
        .route("/{tenant}/oauth2/v2.0/authorize", any(authorize_route))
        .route("/{tenant}/oauth2/v2.0/token", any(token_route))
        .route("/{tenant}/oauth2/v2.0/devicecode", any(device_code_route))
        .route("/{tenant}/oauth2/v2.0/device", any(device_route))
        .with_state(shared)
        .into_make_service_with_connect_info::<Line>();
    let served = axum::serve(Accepted { receiver, address }, routes)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    debug_assert!(served.is_ok(), "axum's server ends without an error");
}

/// Accepts connections and runs their TLS handshakes, each in a task of its own.
async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Io>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    while let Some(stream) = stop.run_until_cancelled(super::service::accept(&listener)).await {
        let (shared, sender, stop) = (Arc::clone(&shared), sender.clone(), stop.clone());
        tasks.spawn(async move {
            let ready = async {
                if let Some(stream) = welcome(&shared, stream).await {
                    // A receiver that is gone is a service that is being stopped.
                    let _ = sender.send(Io::new(stream, stop.child_token())).await;
                }
            };
            stop.run_until_cancelled(ready).await;
        });
    }
}

/// Does what is scripted for a new connection, and the TLS handshake if there is to be one.
async fn welcome(shared: &Shared, mut stream: TcpStream) -> Option<Stream> {
    let due = shared.script.due(Point::HttpConnect, Moment::default());
    pause(due.delay).await;
    let mut bad = None;
    match due.fault {
        Some(Fault::Close) => return None,
        Some(Fault::Reset) => {
            let _ = stream.set_zero_linger();
            return None;
        }
        Some(Fault::Hang) => shared.script.hang().await,
        Some(Fault::Garbage(bytes)) => {
            let _ = stream.write_all(&bytes).await;
            return None;
        }
        Some(Fault::Certificate(certificate)) => bad = Some(certificate),
        _ => {}
    }
    if !shared.options.https {
        return Some(Stream::Plain(stream));
    }
    let accepting = TlsAcceptor::from(shared.authority.config(bad)).accept(stream);
    let stream = tokio::time::timeout(limits::HANDSHAKE, accepting).await.ok()?.ok()?;
    Some(Stream::Tls(Box::new(stream)))
}

async fn token_route(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path(tenant): Path<String>,
    request: Request<Body>,
) -> Response {
    let asked = Asked::read(request).await;
    let grant_type = asked.one("grant_type").unwrap_or("none").to_owned();
    shared.book.count(|counts| *counts.token_requests.entry(grant_type.clone()).or_default() += 1);
    let user = {
        let grants = shared.grants();
        let key = asked.one("code").or_else(|| asked.one("refresh_token"));
        key.and_then(|key| grants.user_of(key)).map(str::to_owned)
    };
    let usual = async || token_endpoint::answer(&shared, &tenant, &asked);
    play(&shared, &line, Point::Token, user.as_deref(), usual).await
}

async fn authorize_route(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path(tenant): Path<String>,
    request: Request<Body>,
) -> Response {
    let asked = Asked::read(request).await;
    shared.book.count(|counts| counts.authorize_requests += 1);
    let user = asked.one("login_hint").map(str::to_owned);
    let due =
        shared.script.due(Point::Authorize, Moment { user: user.as_deref(), ..Moment::default() });
    if let Some(Fault::Decline { error, description }) = &due.fault {
        pause(due.delay).await;
        return authorize::declined(&shared, &asked, error, description).into_response();
    }
    let usual = async || authorize::answer(&shared, &tenant, &asked);
    play_due(&shared, &line, due, usual).await
}

async fn device_code_route(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path(tenant): Path<String>,
    request: Request<Body>,
) -> Response {
    let asked = Asked::read(request).await;
    let usual = async || device::code(&shared, &tenant, &asked);
    play(&shared, &line, Point::DeviceCode, None, usual).await
}

async fn device_route(
    State(shared): State<Arc<Shared>>,
    Path(tenant): Path<String>,
    request: Request<Body>,
) -> Response {
    let asked = Asked::read(request).await;
    device::sign_in(&shared, &tenant, &asked).into_response()
}

/// A request, as far as the endpoints care.
pub(super) struct Asked {
    pub(super) method: Method,
    /// The fields of the query and of a form, in their order.
    fields: Vec<(String, String)>,
    pub(super) is_form: bool,
    pub(super) authorization: Option<String>,
}

impl Asked {
    async fn read(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let text = |name: header::HeaderName| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let is_form = text(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let mut fields = form_fields(head.uri.query().unwrap_or("").as_bytes());
        // A body that cannot be read is a client that is gone.
        let body = axum::body::to_bytes(body, REQUEST_BYTES).await.unwrap_or_default();
        if is_form {
            fields.extend(form_fields(&body));
        }
        Self { method: head.method, fields, is_form, authorization: text(header::AUTHORIZATION) }
    }

    /// The value of a field that is there once and is not empty.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let (_, value) = values.next()?;
        (values.next().is_none() && !value.is_empty()).then_some(value)
    }

    /// All fields.
    pub(super) fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    #[cfg(test)]
    pub(super) fn of(method: Method, fields: &[(&str, &str)], authorization: Option<&str>) -> Self {
        Self {
            method,
            fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            is_form: true,
            authorization: authorization.map(str::to_owned),
        }
    }
}

fn form_fields(text: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            let name = header::HeaderName::try_from(name);
            let value = header::HeaderValue::try_from(value);
            if let (Ok(name), Ok(value)) = (name, value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

async fn play(
    shared: &Shared,
    line: &Line,
    point: Point,
    user: Option<&str>,
    usual: impl AsyncFnOnce() -> Answer,
) -> Response {
    let due = shared.script.due(point, Moment { user, ..Moment::default() });
    play_due(shared, line, due, usual).await
}

/// Gives the usual answer, or does what is scripted.
async fn play_due(
    shared: &Shared,
    line: &Line,
    due: Due,
    usual: impl AsyncFnOnce() -> Answer,
) -> Response {
    // A connection that is kept alive forgets how the last answer was given.
    line.set(Manner::Usual);
    pause(due.delay).await;
    match due.fault {
        None | Some(Fault::Certificate(_) | Fault::Decline { .. } | Fault::Delay(_)) => {
            usual().await.into_response()
        }
        Some(Fault::Answer(answer)) => answer.into_response(),
        Some(Fault::Reply(text) | Fault::ReplyAndClose(text)) => {
            Answer::html(200, &text).into_response()
        }
        Some(Fault::Replies(texts)) => Answer::html(200, &texts.join("\n")).into_response(),
        Some(Fault::Half(text)) => {
            let whole = Answer::html(200, &text).to_wire();
            let half = whole.len() - text.len() / 2;
            line.say_instead(&whole[..half]);
            Answer::html(200, "").into_response()
        }
        Some(Fault::Garbage(bytes)) => {
            line.say_instead(&bytes);
            Answer::html(200, "").into_response()
        }
        Some(Fault::Slow { answer, bytes, pause }) => {
            let answer = match answer {
                Some(answer) => answer,
                None => usual().await,
            };
            line.slow_down(bytes, pause);
            answer.into_response()
        }
        Some(Fault::Close) => line.cut(false).await,
        Some(Fault::Reset) => line.cut(true).await,
        Some(Fault::Hang) => {
            shared.script.hang().await;
            usual().await.into_response()
        }
    }
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
