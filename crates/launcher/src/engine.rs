//! The engine's library and its server process.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use warehouse::engine::{EngineBounds, EngineServer, Sandbox, sandbox, serve as serve_engine};

use crate::cli::EngineOptions;
use crate::config::check_listen;
use crate::{parent, stopping};

/// The version of the library that this build declares functions of.
pub const ENGINE_VERSION: &str = "26.7.3-stable.1";

/// Threads of the engine's Kafka consumers, where it may have any.
const KAFKA_CONSUMERS: u32 = 16;

/// Environment variables that the engine's process keeps, besides those of [`USED_PREFIXES`].
const USED_VARIABLES: [&str; 4] = ["HOME", "LANG", "TZ", "XDG_CACHE_HOME"];
/// This program's own options (never a secret: those come from files), and what the loader, the allocator and Rust read.
const USED_PREFIXES: [&str; 5] = ["LC_", "LD_", "MALLOC_", "RUST_", "TONGXING_"];

/// The library as configured, or where `make engine` puts it.
pub fn library(configured: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = configured {
        if !path.is_file() {
            bail!("engine_library: {} is not a file", path.display());
        }
        return Ok(path.to_owned());
    }
    let cache = std::env::var_os("TONGXING_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME").map(PathBuf::from)?;
            let cache = std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| home.join(".cache"), PathBuf::from);
            Some(cache.join("tongxing"))
        });
    let path = cache
        .context(
            "engine_library: HOME is not set, so the cache folder is not known; name the library",
        )?
        .join("engine")
        .join(ENGINE_VERSION)
        .join("libchdb.so");
    if !path.is_file() {
        bail!(
            "the engine library is not at {}; run `make engine`, which brings it",
            path.display()
        );
    }
    Ok(path)
}

/// Confines this process to what the engine needs. Called while the process has one thread.
pub fn confine(options: &EngineOptions) -> Result<Sandbox> {
    check_listen("listen", options.listen, options.allow_plaintext)?;
    let library = library(options.library.as_deref())?;
    std::fs::create_dir_all(&options.data)
        .with_context(|| format!("create {}", options.data.display()))?;
    shed_environment()?;
    scheduling::stand_back(options.stand_back)?;
    Ok(sandbox::enter(
        &options.data,
        &library,
        options.listen,
        options.allow_connect,
    )?)
}

/// Starts this program again, as the same process, if its environment holds more than the engine has a use for.
///
/// The environment that a process was started with stays readable in its /proc, so the engine's clients can read it.
fn shed_environment() -> Result<()> {
    let is_used = |name: &OsStr| {
        let name = name.to_string_lossy();
        USED_VARIABLES.contains(&&*name)
            || USED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    if std::env::vars_os().all(|(name, _)| is_used(&name)) {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let refused = Command::new(std::env::current_exe()?)
        .arg0(arguments.next().unwrap_or_default())
        .args(arguments)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_used(name)))
        .exec();
    Err(refused).context("start again without the environment")
}

/// Serves the engine, confined before, until a signal or until standard input closes.
pub async fn serve(options: EngineOptions) -> Result<()> {
    let library = library(options.library.as_deref())?;
    let until_stdin_closes = options.until_stdin_closes;
    let bounds = EngineBounds {
        memory_bytes: options.memory_bytes,
        kafka_consumers: options.allow_connect.map_or(0, |_| KAFKA_CONSUMERS),
    };
    let data = options.data.clone();
    let engine =
        tokio::task::spawn_blocking(move || EngineServer::open(&library, &data, bounds)).await??;
    let shutdown = async move {
        if until_stdin_closes {
            tokio::select! {
                () = parent::gone() => {}
                // A terminal's Ctrl-C reaches the child too; its parent decides when it ends.
                () = ignore_interrupts() => {}
            }
        } else {
            stopping::requested().await;
        }
    };
    serve_engine(engine, options.listen, shutdown).await?;
    Ok(())
}

async fn ignore_interrupts() {
    while tokio::signal::ctrl_c().await.is_ok() {}
}
