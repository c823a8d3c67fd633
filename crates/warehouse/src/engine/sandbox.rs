//! The engine's process in a Landlock sandbox: whatever SQL it is given, the kernel keeps it to its own data.
//!
//! ClickHouse's table functions open any path and any address, and its dictionaries run any command. After [`enter`] has
//! answered [`Sandbox::Full`], they have
//!
//! | what | how | why |
//! |---|---|---|
//! | the data folder; the engine's temporary files are in it | everything but run a program or make a device, pipe or socket | its work |
//! | the library, and the folder of the C library | read | the one is loaded, and links to the other |
//! | time zones, processors, memory, control groups, `/dev/null`, `/dev/urandom` | read | the size of the machine; public |
//! | `/proc/self/task` | read | the engine accounts for its threads; refused, each of a statement's takes 0.3 ms more |
//! | the port to listen on | bind | the HTTP interface |
//!
//! and no other file, no program, no TCP connection (but to the one port that a measurement may name), no other port, no abstract Unix socket, no signal to a process
//! outside. Root is bound too. Nothing ends it but the end of the process.
//!
//! It does not keep in
//! - what is below the data folder: a client reads and changes all of it;
//! - the engine's own process: `/proc/self/task` shows its arguments, its memory map, and the environment that it was
//!   started with, which must hold no secret. Other processes' folders do not open, and the kernel refuses to trace them;
//! - whether a path exists, its size and times, which Landlock does not hide;
//! - UDP; but names are only asked for at 127.0.0.1, `/etc/resolv.conf` being out of reach;
//! - Unix sockets by path, before Linux 7.1: `postgresql()` reaches a `.s.PGSQL.…` in any folder, `mysql()`
//!   `/tmp/mysql.sock`.
//!
//! An older kernel enforces less, and [`Sandbox::report`] says what; that is no reason not to start.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, PathFdError, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
    make_bitflags, path_beneath_rules,
};

/// Before Linux 5.19 a sandbox forbids to move a file between folders, which the engine has to.
const LEAST_FILES: ABI = ABI::V2;
/// Up to Linux 7.1.
const ALL_FILES: ABI = ABI::V9;
const TCP: ABI = ABI::V4;
const SCOPES: ABI = ABI::V6;

/// What the engine never does in its own folder.
const NEVER: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    Execute | MakeChar | MakeBlock | MakeFifo | MakeSock | IoctlDev | ResolveUnix
});

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// What is read outside of the data folder, where it exists. Files of /proc are read once, at the start.
const MACHINE: [&str; 11] = [
    "/dev/null",
    "/dev/urandom",
    "/etc/localtime",
    "/etc/timezone",
    "/proc/self/cgroup",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/usr/share/zoneinfo",
];

/// This process's threads.
const THREADS: &str = "/proc/self/task";

/// How much of the sandbox is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    /// All that this page promises.
    Full,
    /// Files, but not what is named.
    Partial(Vec<&'static str>),
    /// Nothing: the kernel is older than Linux 5.19, or Landlock is off.
    Unavailable,
}

/// Why a sandbox that the kernel offers was not entered.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Other threads would stay outside.
    #[error("sandbox: the process already has {0} threads, and the others would stay outside")]
    Threads(usize),
    /// What the engine needs does not open.
    #[error("sandbox: {0}")]
    Path(#[from] PathFdError),
    /// /proc is not mounted.
    #[error("sandbox: {THREADS}: {0}")]
    Proc(#[from] std::io::Error),
    /// The kernel refuses what it offers.
    #[error("sandbox: {0}")]
    Ruleset(#[from] RulesetError),
}

impl Sandbox {
    /// What this kernel offers.
    pub fn offered() -> Self {
        if !offers(|r| r.handle_access(AccessFs::from_all(LEAST_FILES))) {
            return Self::Unavailable;
        }
        let truncate = offers(|r| r.handle_access(AccessFs::Truncate));
        let tcp = offers(|r| r.handle_access(AccessNet::from_all(TCP)));
        let devices = offers(|r| r.handle_access(AccessFs::IoctlDev));
        let scopes = offers(|r| r.scope(Scope::from_all(SCOPES)));
        let parts = [
            ("truncate", truncate),
            ("TCP", tcp),
            ("device ioctl", devices),
            ("signals and abstract Unix sockets", scopes),
        ];
        let is_missing = |(part, is_offered): (_, bool)| (!is_offered).then_some(part);
        let missing: Vec<_> = parts.into_iter().filter_map(is_missing).collect();
        if missing.is_empty() {
            Self::Full
        } else {
            Self::Partial(missing)
        }
    }

    /// Logs a warning that names what is not enforced.
    pub fn report(&self) {
        let missing = match self {
            Self::Full => return,
            Self::Partial(missing) => missing.join(", "),
            Self::Unavailable => "files, TCP, signals".into(),
        };
        tracing::warn!(
            %missing,
            "this kernel does not confine the engine in full; keep others away from its port"
        );
    }
}

/// Whether the kernel knows all the rights that are asked for.
fn offers(ask: impl FnOnce(Ruleset) -> Result<Ruleset, RulesetError>) -> bool {
    ask(Ruleset::default().set_compatibility(CompatLevel::HardRequirement)).is_ok()
}

/// Confines this process for good. Called before its second thread starts, and before the library is loaded.
///
/// `connect` names a port that the engine may connect to, on any host; no deployment does.
pub fn enter(
    data: &Path,
    library: &Path,
    listen: SocketAddr,
    connect: Option<u16>,
) -> Result<Sandbox, SandboxError> {
    let threads = fs::read_dir(THREADS)?.count();
    if threads > 1 {
        return Err(SandboxError::Threads(threads));
    }
    let offered = Sandbox::offered();
    if offered == Sandbox::Unavailable {
        return Ok(offered);
    }
    let own_threads = PathFd::new(THREADS)?;
    Ruleset::default()
        .handle_access(AccessFs::from_all(ALL_FILES))?
        .handle_access(AccessNet::from_all(TCP))?
        .scope(Scope::from_all(SCOPES))?
        .create()?
        .add_rule(PathBeneath::new(
            PathFd::new(data)?,
            AccessFs::from_all(ALL_FILES) & !NEVER,
        ))?
        .add_rule(PathBeneath::new(PathFd::new(library)?, AccessFs::ReadFile))?
        .add_rule(PathBeneath::new(&own_threads, READ))?
        .add_rules(path_beneath_rules(c_library_folder()?, READ))?
        .add_rules(path_beneath_rules(MACHINE, READ))?
        .add_rule(NetPort::new(listen.port(), AccessNet::BindTcp))?
        .add_rules(
            connect.map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp))),
        )?
        .restrict_self()?;
    // /proc makes a new folder, which no rule names, where nobody holds the one that it made before.
    std::mem::forget(own_threads);
    Ok(offered)
}

/// Where the C library of this process is; the parts of it that the engine's library links to are beside it.
fn c_library_folder() -> std::io::Result<Option<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let library = maps.lines().find(|line| line.ends_with("/libc.so.6"));
    let path = library.and_then(|line| line.find('/').map(|start| Path::new(&line[start..])));
    Ok(path.and_then(Path::parent).map(Path::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_confined_in_part() {
        // The test runs in a thread beside the first one.
        let outcome = enter(
            Path::new("/"),
            Path::new("/"),
            SocketAddr::from(([127, 0, 0, 1], 1)),
            None,
        );
        assert!(matches!(outcome, Err(SandboxError::Threads(2..))));
    }
}
