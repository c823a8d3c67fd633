//! The web console's files, built into the program.

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use http_service::Problem;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../../dashboards/console/dist"]
#[allow_missing = true]
struct Files;

/// A file of the console; its page for every path without a file.
pub async fn file(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("v1/") {
        return Problem::not_found().into_response();
    }
    let (name, found) = match Files::get(path) {
        Some(found) => (path, Some(found)),
        None => ("index.html", Files::get("index.html")),
    };
    let Some(found) = found else {
        let text =
            "The console was not built into this program: run `make console`, then build again.\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let media_type = match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        _ => "application/octet-stream",
    };
    let is_hashed = name.starts_with("assets/");
    let caching = if is_hashed {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut response = found.data.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'";
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    );
    response
}
