//! The query service in this process, over a store that is away or one that answers the same to everything.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::any;
use axum::{Router, body::Bytes};
use http_body_util::BodyExt;
use query::{IngestClient, Query, router};
use scan_model::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;
use warehouse::Store;
use warehouse::store::StoreConfig;

/// 2026-11-21 00:00 in Shanghai, in seconds.
pub const DAY: i64 = 1_795_190_400;

/// The service under test.
pub struct World {
    router: Router,
}

/// An answer.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn content_type(&self) -> &str {
        let content_type = self.headers.get(header::CONTENT_TYPE);
        content_type.map_or("", |value| value.to_str().unwrap())
    }

    /// The problem's status, field and rule.
    pub fn problem(&self) -> (u16, String, String) {
        assert_eq!(
            self.content_type(),
            "application/problem+json",
            "{}",
            self.text
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("field"), text("rule"))
    }
}

/// What the tests name in place of a triple of strings.
pub fn refusal(status: u16, field: &str, rule: &str) -> (u16, String, String) {
    (status, field.to_owned(), rule.to_owned())
}

/// An ingest that knows one person, and the callers whose key is not `refused`.
async fn serve_ingest() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async |headers: HeaderMap, body: Bytes| {
        if headers
            .get("authorization")
            .is_some_and(|key| key == "Bearer refused")
        {
            return http_service::Problem::missing_right("read_facts").into_response();
        }
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let person = asked["person"].as_str().unwrap();
        axum::Json(
            json!({"person": person, "status_version": 2, "knowledge_age_ms": 1, "facts": []}),
        )
        .into_response()
    };
    let server = Router::new().route("/v1/facts:query", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, server).await });
    format!("http://{address}")
}

impl World {
    /// Over a store that nobody serves.
    pub fn without_store() -> Self {
        Self::at("http://127.0.0.1:9", "http://127.0.0.1:9")
    }

    /// Over a server that answers every read with one row that has every column.
    pub async fn with_store() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = async |uri: Uri, body: Bytes| {
            let asked = format!("{uri} {}", String::from_utf8_lossy(&body));
            if asked.contains("JSONCompact") {
                let meta = json!([{"name": "value", "type": "String"}]);
                return json!({"meta": meta, "data": [["1"], ["2"]]}).to_string();
            }
            json!({"start": DAY, "part": "00000000000000aa", "registrations": 3, "people": 2, "fever": 1,
                   "fever_people": 1, "red_encounters": 0, "refusals": 0,
                   "category": "confirmed", "source": "cdc", "reference": "1", "effective_ms": DAY * 1000, "expiry_ms": null,
                   "recorded_ms": DAY * 1000, "supplied_by": 170, "note": "", "change": 2,
                   "monday": 0, "name": "scans", "partition_key": "(log_partition, week)", "engine_full": "MergeTree"})
            .to_string()
        };
        let server = Router::new().fallback(any(answer));
        tokio::spawn(async move { axum::serve(listener, server).await });
        Self::at(&format!("http://{address}"), &serve_ingest().await)
    }

    fn at(url: &str, ingest: &str) -> Self {
        let store = Store::new(&StoreConfig {
            url: url.to_owned(),
            database: "tongxing".into(),
            user: None,
            password: None,
        });
        let complete_up_to: query::CompleteUpTo =
            Arc::new(|| Box::pin(async { Some(Timestamp(DAY * 1000)) }));
        let query = Query {
            store,
            complete_up_to,
            ingest: Some(IngestClient::new(ingest).unwrap()),
        };
        let metrics = Arc::new(|| "metrics 1\n".to_owned());
        Self {
            router: router(Arc::new(query), metrics),
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None, String::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let content_type = Some("application/json");
        self.call(Method::POST, path, content_type, body.to_string())
            .await
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        self.answer(request.body(body.into()).unwrap()).await
    }

    /// Posts JSON with a caller's key.
    pub async fn post_as(&self, key: &str, path: &str, body: &Value) -> Reply {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .body(body.to_string().into());
        self.answer(request.unwrap()).await
    }

    async fn answer(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply {
            status,
            headers,
            text,
        }
    }
}
