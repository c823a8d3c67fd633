//! A bare axum handler with a fixed answer: what `make bench-lookup` measures lookups against.
//!
//! usage: `bare_axum <address> <file with the answer>`

use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::routing::get;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(file)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: bare_axum <address> <file with the answer>");
    };
    let answer: &'static str = String::leak(std::fs::read_to_string(file)?);
    let handler = move |Path(_code): Path<String>| async move {
        ([(header::CONTENT_TYPE, "application/json")], answer)
    };
    let router = Router::new().route("/v1/codes/{code}", get(handler));
    // The same runtime and the same serving as the program's own.
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = http_service::bind(address.parse()?).await?;
            Ok(http_service::serve(router, listener, std::future::pending()).await?)
        })
}
