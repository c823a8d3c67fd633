//! The status table at full size: bytes a person, lookups with and without updates beside them, snapshot and restart.
//!
//! `make bench-table` runs it at 1, 10 and 126 million persons, each in a process of its own so that resident memory is that
//! population's. Lookups are timed one by one by the processor's counter, fenced on both sides, so that none begins before the counter
//! is read nor ends after. What a measurement of nothing shows is printed, and so is what one bare read takes of a random word in as
//! much memory: the least that any lookup in it can take on the machine.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::person::Identity;
use scan_model::{Category, Fact, PersonId, Timestamp};
use status_cache::{StatusCache, snapshot};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Persons in the table.
    #[arg(long, default_value_t = 1_000_000)]
    persons: u64,
    /// Seconds of each measurement of lookups.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Updates a second beside the lookups.
    #[arg(long, default_value_t = 100_000)]
    updates: u64,
    /// Writes and reads a snapshot here as well. As root, the page cache is dropped before the reading.
    #[arg(long)]
    snapshot: Option<PathBuf>,
    /// Prints the content as Redis commands instead, for `redis-cli --pipe`.
    #[arg(long)]
    redis: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.redis {
        return print_redis(options.persons);
    }
    let persons = options.persons;
    let cache = StatusCache::new(persons as usize)?;
    let before = resident_bytes()?;
    let began = Instant::now();
    fill(&cache, persons)?;
    let filling = began.elapsed();
    let holders = give_facts(&cache, persons);
    let resident = resident_bytes()? - before;
    println!(
        "{persons} persons, {holders} of them with facts: enrolled in {:.1} s ({:.0}/s on one core)",
        filling.as_secs_f64(),
        persons as f64 / filling.as_secs_f64(),
    );
    println!(
        "  memory     {:.2} bytes a person resident ({:.3} GB, whole process {:.3} GB); table alone {:.2}",
        resident as f64 / persons as f64,
        resident as f64 / 1e9,
        resident_bytes()? as f64 / 1e9,
        cache.table().bytes() as f64 / persons as f64,
    );
    let seconds = Duration::from_secs(options.seconds);
    report("nothing", &timed(Duration::from_secs(1), || (), black_box)?);
    report(
        "bare reads of as much memory",
        &bare_reads(cache.table().bytes(), seconds)?,
    );
    let alone = lookups(&cache, persons, seconds)?;
    let (beside, done) = with_updates(&cache, persons, options.updates, seconds)?;
    report("lookups", &alone);
    report(&format!("lookups beside {done:.0} updates/s"), &beside);
    println!(
        "  batches    {:.0} ns a person in batches of 500",
        batches(&cache, persons, seconds)
    );
    if let Some(file) = &options.snapshot {
        measure_snapshot(&cache, persons, file)?;
    }
    Ok(())
}

/// Ids as a keyed hash spreads them, without keeping a list.
const fn id(n: u64) -> PersonId {
    let mut x = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    let x = x ^ x >> 31;
    PersonId(if x == 0 { 1 } else { x })
}

fn enrolment(n: u64, name: MaskedName, phone: MaskedPhone) -> Enrolment {
    Enrolment {
        identity: Identity {
            person: id(n),
            check: u128::from(n),
        },
        verification: Verification::FaceChecked,
        sex: if n.is_multiple_of(2) {
            Sex::Female
        } else {
            Sex::Male
        },
        birth_year: Some(1930 + (n % 90) as u16),
        name,
        phone: Some(phone),
        name_hash: n,
        phone_hash: Some(n),
        residence: None,
        recorded_at: Timestamp(0),
        synthetic: true,
        change: 1,
    }
}

fn fill(cache: &StatusCache, persons: u64) -> Result<()> {
    let name = MaskedName::of("张伟")?;
    let phone = MaskedPhone::of("13812345678")?;
    let mut n = 0;
    while n < persons {
        let end = (n + 64).min(persons);
        let mut turn = cache.turn();
        turn.expect((n..end).map(id));
        for n in n..end {
            turn.apply_enrolment(&enrolment(n, name, phone))?;
        }
        n = end;
        if n.is_multiple_of(10_000_000) {
            eprint!("\r{} million enrolled ", n / 1_000_000);
        }
    }
    eprint!("\r");
    ensure!(cache.table().len() as u64 == persons, "two ids were equal");
    Ok(())
}

fn fact(n: u64, change: u64) -> Fact {
    let now = Timestamp::now();
    Fact {
        person: id(n),
        category: Category::ALL[(n / 50 % 9) as usize],
        source: "guangzhou-cdc".into(),
        reference: format!("GZ2026-{:08}", n % 100_000_000),
        effective: now.plus_ms(-1000),
        expiry: Some(now.plus_ms(14 * 86_400_000 + change as i64)),
        recorded_at: now,
        supplied_by: 0x1234_5678_9ABC_DEF0,
        note: String::new(),
        change: 2,
    }
}

/// Two of a hundred have a fact.
fn give_facts(cache: &StatusCache, persons: u64) -> u64 {
    for n in (0..persons).step_by(50) {
        cache.apply_fact(fact(n, 0));
    }
    cache.side_table().len() as u64
}

struct Random(u64);

impl Random {
    const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 as u128 * bound as u128) >> 64) as u64
    }
}

/// Orders what comes before and after it: no load is under way across it.
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has SSE2.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// Times something again and again, each time with what is prepared for it beforehand.
fn timed<P, F>(
    seconds: Duration,
    mut prepare: impl FnMut() -> P,
    mut work: impl FnMut(P) -> F,
) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3)?;
    let clock = quanta::Clock::new();
    let began = Instant::now();
    while began.elapsed() < seconds {
        for _ in 0..1000 {
            let prepared = prepare();
            fence();
            let asked = clock.raw();
            fence();
            black_box(work(prepared));
            fence();
            let answered = clock.raw();
            fence();
            histogram.saturating_record(clock.delta_as_nanos(asked, answered));
        }
    }
    Ok(histogram)
}

fn lookups(cache: &StatusCache, persons: u64, seconds: Duration) -> Result<Histogram<u64>> {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let now = Timestamp::now();
    let prepare = || black_box(id(random.below(persons)));
    let mut found = 0;
    let histogram = timed(seconds, prepare, |person| {
        let status = cache.get(person, now);
        found += u64::from(status.is_some());
        status
    })?;
    ensure!(found == histogram.len(), "somebody was not found");
    Ok(histogram)
}

/// Reads of one random word each, in memory of its own that is as large and has pages as large as the table's.
fn bare_reads(bytes: usize, seconds: Duration) -> Result<Histogram<u64>> {
    const PAGE: usize = 4096;
    let mut memory = memmap2::MmapMut::map_anon(bytes)?;
    memory.advise(memmap2::Advice::HugePage)?;
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let prepare = || black_box(random.below(bytes as u64) as usize);
    timed(seconds, prepare, |at| memory[at])
}

/// Lookups beside a thread that changes facts at a steady rate; answers the rate reached too.
fn with_updates(
    cache: &StatusCache,
    persons: u64,
    rate: u64,
    seconds: Duration,
) -> Result<(Histogram<u64>, f64)> {
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(0x9E37_79B9_7F4A_7C15);
            let began = Instant::now();
            let mut change = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
                while change < due {
                    change += 1;
                    cache.apply_fact(fact(random.below(persons) / 50 * 50, change));
                }
                done.store(change, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let began = Instant::now();
        let histogram = lookups(cache, persons, seconds);
        let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        Ok((histogram?, rate))
    })
}

/// Nanoseconds a person of batched lookups.
fn batches(cache: &StatusCache, persons: u64, seconds: Duration) -> f64 {
    let mut random = Random(77);
    let now = Timestamp::now();
    let mut spent = Duration::ZERO;
    let mut asked = 0_u64;
    let began = Instant::now();
    while began.elapsed() < seconds {
        let batch: Vec<PersonId> = (0..500).map(|_| id(random.below(persons))).collect();
        let at = Instant::now();
        cache.get_each(&batch, now, |status| {
            black_box(status);
        });
        spent += at.elapsed();
        asked += 500;
    }
    spent.as_nanos() as f64 / asked as f64
}

fn report(what: &str, histogram: &Histogram<u64>) {
    let at = |quantile| histogram.value_at_quantile(quantile);
    println!(
        "  {what}: p50 {} ns, p99 {} ns, p99.9 {} ns ({} times)",
        at(0.5),
        at(0.99),
        at(0.999),
        histogram.len()
    );
}

fn measure_snapshot(cache: &StatusCache, persons: u64, file: &Path) -> Result<()> {
    let key = [7; 8];
    let began = Instant::now();
    let bytes = snapshot::write(cache, Timestamp::now(), key, file, snapshot::Pace::Fast)?;
    let writing = began.elapsed().as_secs_f64();
    println!(
        "  snapshot   {:.3} GB written in {writing:.1} s ({:.0} MB/s)",
        bytes as f64 / 1e9,
        bytes as f64 / 1e6 / writing
    );
    let is_cold = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let restored = StatusCache::new(persons as usize)?;
    let began = Instant::now();
    snapshot::read(&restored, key, Duration::from_secs(3600), file)?;
    let reading = began.elapsed().as_secs_f64();
    let cold = if is_cold { "dropped" } else { "NOT dropped" };
    println!(
        "  restart    {reading:.1} s to read {} persons and {} holders (page cache {cold})",
        restored.table().len(),
        restored.side_table().len()
    );
    std::fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    Ok(())
}

/// What `/proc` says is resident of this process.
fn resident_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let pages: u64 = text
        .split_whitespace()
        .nth(1)
        .context("resident pages")?
        .parse()?;
    Ok(pages * 4096)
}

/// The same content as commands: the id as key, the three further words as value.
fn print_redis(persons: u64) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    for n in 0..persons {
        let key = id(n).0.to_le_bytes();
        let mut value = [0; 24];
        for (place, word) in value.chunks_exact_mut(8).zip([n, n ^ 0xABCD, n << 7]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out.write_all(b"*3\r\n$3\r\nSET\r\n$8\r\n")?;
        out.write_all(&key)?;
        out.write_all(b"\r\n$24\r\n")?;
        out.write_all(&value)?;
        out.write_all(b"\r\n")?;
    }
    out.flush()?;
    Ok(())
}
