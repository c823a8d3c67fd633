//! What hyper asks: the service's quick answers, and the router for all else.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body as RouterBody;
use axum::http::{Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tower::ServiceExt;

use super::quick::{Answer, JSON, Quick};

/// A body that is there already, or one that the router gives.
pub(super) enum AnswerBody {
    /// There already.
    Ready(Option<Bytes>),
    /// The router's.
    Router(RouterBody),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Self::Ready(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Router(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ready(bytes) => bytes.is_none(),
            Self::Router(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ready(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Router(body) => body.size_hint(),
        }
    }
}

/// What answers on every core.
pub(super) struct Service<Q> {
    pub router: Router,
    pub quick: Arc<Q>,
    pub heavy: Handle,
}

impl<Q> Clone for Service<Q> {
    fn clone(&self) -> Self {
        Self {
            router: self.router.clone(),
            quick: Arc::clone(&self.quick),
            heavy: self.heavy.clone(),
        }
    }
}

impl<Q: Quick> Service<Q> {
    pub(super) async fn serve(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        if let Some(answer) = self.answer_at_once(&request) {
            scheduling::front_line::answered();
            return Ok(answer.map(|bytes| AnswerBody::Ready(Some(bytes))));
        }
        let is_heavy = self.quick.is_heavy(&request);
        let answering = self.router.oneshot(request);
        let answer = if is_heavy {
            self.heavy.spawn(answering).await
        } else {
            let answer = answering.await;
            scheduling::front_line::answered_other();
            Ok(answer)
        };
        Ok(match answer {
            Ok(Ok(response)) => response.map(AnswerBody::Router),
            Err(_) => {
                let mut response = Response::new(AnswerBody::Ready(None));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        })
    }

    fn answer_at_once(&self, request: &Request<Incoming>) -> Option<Response<Bytes>> {
        // A query is not part of the path, and no quick request has one.
        if request.method() != Method::GET || request.uri().query().is_some() {
            return None;
        }
        let mut body = Vec::new();
        let path = request.uri().path();
        Some(
            match self.quick.answer(path, request.headers(), &mut body)? {
                Answer::Json => {
                    let mut response = Response::new(Bytes::from(body));
                    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
                    response
                }
                Answer::Refusal(response) => response,
            },
        )
    }
}
