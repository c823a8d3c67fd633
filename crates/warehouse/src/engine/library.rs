//! The C functions of `libchdb.so` that are used, behind a safe handle.
//!
//! Declarations follow `programs/local/chdb.h` of chdb-core 26.7. A handle runs one statement at a time; several
//! handles on one data path run in parallel. Settings, `USE` and temporary tables belong to the handle.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::Library as DynamicLibrary;

type RawResult = *mut c_void;
type RawInsert = *mut c_void;
type RawHandle = *mut c_void;

/// Why the engine could not be used at all.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The library is missing or is another version.
    #[error("{}: {source}", path.display())]
    Load {
        /// The library's path.
        path: PathBuf,
        /// The loader's answer.
        source: libloading::Error,
    },
    /// The engine does not open the data folder; another process may have it.
    #[error("the engine cannot open {}; is another process using it?", .0.display())]
    Connect(PathBuf),
    /// A path holds a NUL byte.
    #[error("the path holds a NUL byte")]
    Path,
    /// The address could not be served.
    #[error("serve {address}: {source}")]
    Serve {
        /// The address.
        address: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $answer:ty)?;)*) => {
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)*
        }

        impl Functions {
            fn load(library: &DynamicLibrary) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $(
                        // SAFETY: the signature is the one that chdb.h of this library version declares.
                        $name: unsafe { *library.get(stringify!($name))? },
                    )*
                })
            }
        }
    };
}

functions! {
    chdb_set_signal_handlers_enabled: fn(c_int);
    chdb_connect: fn(c_int, *mut *mut c_char) -> *mut RawHandle;
    chdb_close_conn: fn(*mut RawHandle);
    chdb_query_with_params_n: fn(
        RawHandle, *const c_char, usize, *const c_char, usize,
        *const *const c_char, *const usize, *const *const c_char, *const usize, usize
    ) -> RawResult;
    chdb_destroy_query_result: fn(RawResult);
    chdb_result_buffer: fn(RawResult) -> *mut c_char;
    chdb_result_length: fn(RawResult) -> usize;
    chdb_result_elapsed: fn(RawResult) -> f64;
    chdb_result_rows_read: fn(RawResult) -> u64;
    chdb_result_bytes_read: fn(RawResult) -> u64;
    chdb_result_storage_rows_read: fn(RawResult) -> u64;
    chdb_result_storage_bytes_read: fn(RawResult) -> u64;
    chdb_result_rows_written: fn(RawResult) -> u64;
    chdb_result_bytes_written: fn(RawResult) -> u64;
    chdb_result_error: fn(RawResult) -> *const c_char;
    chdb_stream_insert_n: fn(RawHandle, *const c_char, usize, *const c_char, usize) -> RawInsert;
    chdb_stream_append: fn(RawInsert, *const c_void, usize) -> c_int;
    chdb_stream_done: fn(RawInsert) -> RawResult;
    chdb_stream_insert_error: fn(RawInsert) -> *const c_char;
    chdb_destroy_insert_stream: fn(RawInsert);
    chdb_classify_query_n: fn(
        RawHandle, *const c_char, usize, *const c_char, usize, *mut Classification
    ) -> c_int;
}

/// `chdb_query_analysis_v1`.
#[repr(C)]
struct Classification {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// The `query_class` of statements that act on more than data: SET, USE, SYSTEM, KILL, and any INTO OUTFILE.
const CONTROL: u32 = 3;

/// What a text of SQL holds.
pub(super) struct Classified {
    pub statements: u32,
    /// Whether it is of the class that acts on more than data.
    pub is_control: bool,
}

/// The loaded library. Loading it runs its initialisers, so it is loaded once a process.
pub(super) struct Library {
    functions: Functions,
    /// Stays mapped until the process ends: the engine's threads outlive its last connection.
    _library: ManuallyDrop<DynamicLibrary>,
}

/// What a statement answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub body: Vec<u8>,
    pub elapsed_ns: u64,
    pub result_rows: u64,
    pub result_bytes: u64,
    pub read_rows: u64,
    pub read_bytes: u64,
    pub written_rows: u64,
    pub written_bytes: u64,
}

impl Library {
    pub(super) fn load(path: &Path) -> Result<Arc<Self>, EngineError> {
        let refuse = |source| EngineError::Load {
            path: path.to_owned(),
            source,
        };
        // SAFETY: libchdb's initialisers set up its allocator and registries and rely on nothing of ours.
        let library = unsafe { DynamicLibrary::new(path) }.map_err(refuse)?;
        let functions = Functions::load(&library).map_err(refuse)?;
        // SAFETY: called before any connection, as chdb.h asks; leaves signals to this process.
        unsafe { (functions.chdb_set_signal_handlers_enabled)(0) };
        Ok(Arc::new(Self {
            functions,
            _library: ManuallyDrop::new(library),
        }))
    }
}

/// One connection to the engine. One statement at a time; dropping it closes it, and the last one stops the engine.
pub(super) struct Handle {
    library: Arc<Library>,
    raw: *mut RawHandle,
}

// SAFETY: chdb guards a connection with a mutex of its own and ties it to no thread.
unsafe impl Send for Handle {}

impl Handle {
    /// Opens a connection to a data folder; the first one starts the engine.
    pub(super) fn connect(
        library: &Arc<Library>,
        data: &Path,
        arguments: &[String],
    ) -> Result<Self, EngineError> {
        let mut texts = vec!["tongxing".to_owned(), format!("--path={}", data.display())];
        texts.extend_from_slice(arguments);
        let texts: Vec<CString> = texts
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|_| EngineError::Path)?;
        let mut pointers: Vec<*mut c_char> =
            texts.iter().map(|text| text.as_ptr().cast_mut()).collect();
        // SAFETY: argc matches argv, and the strings outlive the call, which copies them.
        let raw = unsafe {
            (library.functions.chdb_connect)(pointers.len() as c_int, pointers.as_mut_ptr())
        };
        if raw.is_null() {
            return Err(EngineError::Connect(data.to_owned()));
        }
        Ok(Self {
            library: Arc::clone(library),
            raw,
        })
    }

    fn connection(&self) -> RawHandle {
        // SAFETY: `raw` is what chdb_connect returned and stays valid until chdb_close_conn in drop.
        unsafe { *self.raw }
    }

    /// What a text holds; `None` where the engine cannot say.
    pub(super) fn classify(&mut self, sql: &[u8]) -> Option<Classified> {
        let mut answer = Classification {
            struct_size: size_of::<Classification>() as u32,
            statement_count: 0,
            flags: 0,
            query_class: 0,
        };
        // SAFETY: pointer and length describe `sql`; the database name is empty; `answer` states its own size.
        let outcome = unsafe {
            (self.library.functions.chdb_classify_query_n)(
                self.connection(),
                sql.as_ptr().cast(),
                sql.len(),
                c"".as_ptr(),
                0,
                &raw mut answer,
            )
        };
        (outcome == 0).then_some(Classified {
            statements: answer.statement_count,
            is_control: answer.query_class == CONTROL,
        })
    }

    /// Runs a statement. The error is ClickHouse's text.
    pub(super) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, String> {
        let names: Vec<_> = parameters
            .iter()
            .map(|(name, _)| name.as_ptr().cast())
            .collect();
        let name_lengths: Vec<_> = parameters.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<_> = parameters
            .iter()
            .map(|(_, value)| value.as_ptr().cast())
            .collect();
        let value_lengths: Vec<_> = parameters.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: every pointer goes with its length, the four arrays have `parameters.len()` entries, and all of
        // it outlives the call.
        let result = unsafe {
            (self.library.functions.chdb_query_with_params_n)(
                self.connection(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        self.take(result)
    }

    /// Runs an INSERT with its data, as one block. The SQL has neither FORMAT nor VALUES nor a semicolon.
    pub(super) fn insert(
        &mut self,
        sql: &str,
        format: &str,
        data: &[u8],
    ) -> Result<Answer, String> {
        let functions = &self.library.functions;
        // SAFETY: pointers go with their lengths; the stream is never null and is destroyed below on every path.
        let stream = unsafe {
            (functions.chdb_stream_insert_n)(
                self.connection(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
            )
        };
        // SAFETY: the stream is live; the text, if any, belongs to it.
        let mut refused = unsafe { text((functions.chdb_stream_insert_error)(stream)) };
        if refused.is_none() && !data.is_empty() {
            // SAFETY: as above; append copies the data before it returns.
            let appended =
                unsafe { (functions.chdb_stream_append)(stream, data.as_ptr().cast(), data.len()) };
            if appended != 0 {
                // SAFETY: as above.
                refused = unsafe { text((functions.chdb_stream_insert_error)(stream)) };
            }
        }
        let outcome = match refused {
            Some(error) => Err(error),
            None => {
                // SAFETY: the stream is live and has taken all its data.
                let result = unsafe { (functions.chdb_stream_done)(stream) };
                self.take(result)
            }
        };
        // SAFETY: the stream is live and is not used again.
        unsafe { (functions.chdb_destroy_insert_stream)(stream) };
        outcome
    }

    /// Copies a result out and destroys it.
    fn take(&self, result: RawResult) -> Result<Answer, String> {
        if result.is_null() {
            return Err("Code: 1002. DB::Exception: the engine returned no result".into());
        }
        let functions = &self.library.functions;
        // SAFETY: the result is live until destroyed at the end; buffer and length belong together.
        let outcome = unsafe {
            match text((functions.chdb_result_error)(result)) {
                Some(error) => Err(error),
                None => {
                    let buffer = (functions.chdb_result_buffer)(result);
                    let length = (functions.chdb_result_length)(result);
                    let body = if buffer.is_null() || length == 0 {
                        Vec::new()
                    } else {
                        std::slice::from_raw_parts(buffer.cast::<u8>(), length).to_vec()
                    };
                    Ok(Answer {
                        body,
                        elapsed_ns: ((functions.chdb_result_elapsed)(result) * 1e9) as u64,
                        result_rows: (functions.chdb_result_rows_read)(result),
                        result_bytes: (functions.chdb_result_bytes_read)(result),
                        read_rows: (functions.chdb_result_storage_rows_read)(result),
                        read_bytes: (functions.chdb_result_storage_bytes_read)(result),
                        written_rows: (functions.chdb_result_rows_written)(result),
                        written_bytes: (functions.chdb_result_bytes_written)(result),
                    })
                }
            }
        };
        // SAFETY: destroyed once, here.
        unsafe { (functions.chdb_destroy_query_result)(result) };
        outcome
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: closed once, here.
        unsafe { (self.library.functions.chdb_close_conn)(self.raw) };
    }
}

/// The text behind a pointer, if there is one.
///
/// # Safety
/// The pointer is null or points to a NUL-terminated string.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(
        unsafe { CStr::from_ptr(pointer) }
            .to_string_lossy()
            .into_owned(),
    )
}
