//! Enrolment (P8): one by one and in bulk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use event_log::{Offset, Partition, Record, partition_for};
use foldhash::fast::RandomState;
use futures::future::join_all;
use scan_model::codec::{self, WireRecord};
use scan_model::person::PersonHashes;
use scan_model::{Alias, Enrolment, Identity, PersonId, Timestamp};
use scheduling::Breather;
use status_cache::PersonStatus;
use status_cache::feed::PERSONS;

use super::facts::APPLY_WAIT;
use crate::authority::{Caller, Right};
use crate::bulk::{self, Import};
use crate::forms::{EnrolmentDraft, PersonForm, Persons};
use crate::problem::{self, Problem};
use crate::room::Places;
use crate::service::Ingest;

/// Persons read, hashed and masked at a time, before lookups may go first: some 25 microseconds.
const READ: u32 = 32;
/// Persons looked up and put into records at a time, before lookups may go first: some 25 microseconds.
const AT_A_TIME: u32 = 64;
/// Persons whose memory is fetched together.
const FETCHED: usize = 32;

/// `POST /v1/persons` and `POST /v1/persons:import`.
pub async fn enrol(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    accept(&ingest, &headers, body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn accept(
    ingest: &Arc<Ingest>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::EnrolPersons)?;
    let body = bulk::read_body(body).await?;
    let turn = ingest.imports.turn(body.len()).await;
    let now = Timestamp::now();
    let mut hashing = Persons::hashing(&ingest.config.person_key, &body);
    let read = |form: PersonForm<'_>| {
        Ok(Read {
            draft: form.into_draft(&mut hashing, now)?,
            alias: None,
        })
    };
    let breather = Breather::giving_way_every(READ);
    let Import { shape, mut items } =
        bulk::read_import::<Persons, _>(headers, &body, breather, read)?;
    let hashes = hashing.finish();
    let mut outcomes = Vec::with_capacity(items.len());
    let mut shares = Shares::new(ingest.partitions, items.len());
    // Whoever waits for places has a turn already, and so has whoever holds some.
    let enrolled = || ingest.cache.table().len();
    let mut places = ingest.room.places(items.len(), enrolled).await;
    let mut seen = Seen::with_capacity_and_hasher(items.len(), RandomState::default());
    let mut breather = Breather::giving_way_every(AT_A_TIME);
    let mut known = Vec::with_capacity(FETCHED);
    for items in items.chunks_mut(FETCHED) {
        for item in &mut *items {
            complete(ingest, item, &hashes, caller, now);
        }
        look_up(ingest, items, now, &mut known);
        let mut known = known.iter().copied();
        for item in &mut *items {
            outcomes.push(match item {
                Ok(read) => {
                    let known = known.next().flatten();
                    share(
                        &mut shares,
                        &mut seen,
                        &mut places,
                        outcomes.len(),
                        read,
                        known,
                    )
                }
                Err(problem) => Err(problem.clone()),
            });
        }
        breather.items(items.len() as u32);
    }
    places.keep_taken();
    // What is in the shares is not kept twice while the log works.
    drop((items, hashes, seen));
    drop(turn);
    // An import that gave way has kept no room from check-ins until here.
    let _room = ingest.appends.admit(outcomes.len())?;
    let appends = shares.of_partitions().map(|(partition, share)| async move {
        let (records, indices) = share.into_records();
        let count = records.len() as u64;
        match ingest.log.append(PERSONS, partition, records).await {
            Ok(appended) => {
                let last = appended.last;
                let feed = &ingest.feed;
                let is_applied = feed.wait_applied(PERSONS, partition, last, APPLY_WAIT);
                let is_late = !is_applied.await;
                ingest.instruments.persons.increment(count);
                Ok(is_late.then_some((partition, last)))
            }
            Err(error) => Err((indices, problem::from_log(&error))),
        }
    });
    let mut late = Vec::new();
    for outcome in join_all(appends).await {
        match outcome {
            Ok(appended) => late.extend(appended),
            Err((indices, problem)) => {
                for index in indices {
                    outcomes[index] = Err(problem.clone());
                }
            }
        }
    }
    if !late.is_empty() {
        tokio::spawn(hold_until_applied(Arc::clone(ingest), late, places));
    }
    if bulk::wants_refusals_only(headers) {
        return Ok(bulk::respond_refusals(&outcomes));
    }
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome.map(|person| format!(r#"{{"person":"{person}"}}"#)))
        .collect();
    Ok(bulk::respond(shape, StatusCode::CREATED, outcomes))
}

/// Holds places until the persons who have them are in the table, or the node ends.
async fn hold_until_applied(ingest: Arc<Ingest>, late: Vec<(Partition, Offset)>, places: Places) {
    for (partition, last) in late {
        let feed = &ingest.feed;
        while !ingest.is_draining()
            && feed.failure().is_none()
            && !feed
                .wait_applied(PERSONS, partition, last, APPLY_WAIT)
                .await
        {}
    }
    drop(places);
}

/// Puts an enrolment, and the alias before it, into its partition's share, unless its person is another's or has no place.
fn share(
    shares: &mut Shares,
    seen: &mut Seen,
    places: &mut Places,
    index: usize,
    Read { draft, alias }: &mut Read,
    known: Option<Known>,
) -> Result<PersonId, Problem> {
    let enrolment = &mut draft.enrolment;
    let person = enrolment.identity.person;
    check(known, enrolment.identity, seen, places)?;
    if let Some(known) = known {
        enrolment.change = known.version.wrapping_add(1);
    }
    if let Some(alias) = alias {
        shares.put(alias.identity.person, &**alias, index)?;
    }
    shares.put(person, enrolment, index)?;
    Ok(person)
}

/// Further bits of each person of a batch, as many as those of the id. Both are of a keyed hash, so nobody can choose them to collide.
type Seen = HashMap<PersonId, u64, RandomState>;

/// The records of a batch by partition.
struct Shares {
    each: Vec<Share>,
    /// Records that a share has room for. Persons are spread evenly, and a share that is longer grows.
    room: usize,
}

impl Shares {
    fn new(partitions: u32, items: usize) -> Self {
        Self {
            each: (0..partitions).map(|_| Share::default()).collect(),
            room: items * 9 / 8 / partitions as usize + 1,
        }
    }

    fn put(&mut self, id: PersonId, record: &impl WireRecord, index: usize) -> Result<(), Problem> {
        let partition = partition_for(id.0, self.each.len() as u32);
        let share = &mut self.each[partition as usize];
        if share.ends.is_empty() {
            share.reserve(self.room);
        }
        share.put(id, record, index)
    }

    fn of_partitions(self) -> impl Iterator<Item = (u32, Share)> {
        let taken = |(_, share): &(u32, Share)| !share.ends.is_empty();
        (0..).zip(self.each).filter(taken)
    }
}

/// A partition's share of a batch, keys and values one after the other in one piece of memory.
#[derive(Default)]
struct Share {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
    /// Of each record, its item's place in the batch.
    indices: Vec<usize>,
}

/// Bytes of a record's key.
const KEY: usize = size_of::<PersonId>();

/// Bytes that a record usually has at most, with its key.
const USUAL: usize = 112;

impl Share {
    /// Makes room for so many usual records.
    fn reserve(&mut self, records: usize) {
        self.bytes.reserve(records * USUAL);
        self.ends.reserve(records);
        self.indices.reserve(records);
    }

    fn put(&mut self, id: PersonId, record: &impl WireRecord, index: usize) -> Result<(), Problem> {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&id.0.to_be_bytes());
        codec::append(record, &mut self.bytes).map_err(|error| {
            self.bytes.truncate(before);
            Problem::malformed(error.to_string())
        })?;
        self.ends.push(self.bytes.len());
        self.indices.push(index);
        Ok(())
    }

    fn into_records(self) -> (Vec<Record>, Vec<usize>) {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        let record = |end| {
            let key = bytes.slice(start..start + KEY);
            let value = bytes.slice(start + KEY..end);
            start = end;
            Record::keyed(key, value)
        };
        (self.ends.into_iter().map(record).collect(), self.indices)
    }
}

/// An item that was read.
struct Read {
    draft: EnrolmentDraft,
    /// The alias to be appended before it, where its document renews another. It is apart, as few have one and a batch is to stay in the
    /// caches.
    alias: Option<Box<Alias>>,
}

/// What an import has to know of someone who is enrolled already.
#[derive(Clone, Copy)]
struct Known {
    residue: u16,
    version: u16,
}

/// Gives an item that was read its hashes, and the alias that goes before it; refuses it where there can be none.
fn complete(
    ingest: &Ingest,
    item: &mut Result<Read, Problem>,
    hashes: &PersonHashes,
    caller: &Caller,
    now: Timestamp,
) {
    let Ok(Read { draft, alias }) = item else {
        return;
    };
    let renewed = draft.complete(hashes);
    let enrolment = &mut draft.enrolment;
    if ingest.cache.aliases().is_another_s(enrolment.identity) {
        *item = Err(same_id());
        return;
    }
    enrolment.synthetic |= caller.synthetic;
    match renewed.map(|earlier| renew(ingest, enrolment, earlier, caller, now)) {
        Some(Ok(renewal)) => *alias = renewal,
        Some(Err(problem)) => {
            *item = Err(problem);
            return;
        }
        None => {}
    }
    // A renewed document is the earlier one's person.
    enrolment.identity = ingest.cache.resolve(enrolment.identity);
}

/// Finds what is known already of each person that was read, in order; fetched together, as a province of people lies in no cache.
fn look_up(
    ingest: &Ingest,
    items: &[Result<Read, Problem>],
    now: Timestamp,
    known: &mut Vec<Option<Known>>,
) {
    let read = items.iter().flatten();
    let persons: Vec<PersonId> = read.map(|r| r.draft.enrolment.identity.person).collect();
    known.clear();
    ingest.cache.get_each(&persons, now, |status| {
        known.push(status.map(
            |PersonStatus {
                 residue, version, ..
             }| Known { residue, version },
        ));
    });
}

/// Makes an enrolment that of the person of an earlier document; answers the alias to be appended, where it is not known yet.
fn renew(
    ingest: &Ingest,
    enrolment: &mut Enrolment,
    earlier: Identity,
    caller: &Caller,
    now: Timestamp,
) -> Result<Option<Box<Alias>>, Problem> {
    let later = enrolment.identity;
    let of = ingest.cache.resolve(earlier);
    let is_enrolled = |identity: Identity| {
        let status = ingest.cache.get(identity.person, now);
        status.is_some_and(|status| status.residue == identity.residue())
    };
    if !is_enrolled(of) {
        let detail = "nobody is enrolled under the document that is renewed";
        return Err(Problem::unknown("renews", detail));
    }
    enrolment.identity = of;
    if later.person == of.person || ingest.cache.resolve(later) == of {
        return Ok(None);
    }
    let has_id = |identity: Identity| ingest.cache.get(identity.person, now).is_some();
    if has_id(later) && !is_enrolled(later) {
        return Err(same_id());
    }
    if is_enrolled(later) || ingest.cache.resolve(later) != later {
        return Err(Problem::conflict(
            "document",
            "this document is another person's already; report it to the operator",
        ));
    }
    Ok(Some(Box::new(Alias {
        identity: later,
        of,
        recorded_at: now,
        supplied_by: caller.operator,
    })))
}

/// Two documents with one id are told apart by their further keyed bits, before anything is appended (P1), and whoever is new takes a
/// place in the status table.
fn check(
    known: Option<Known>,
    identity: Identity,
    seen: &mut Seen,
    places: &mut Places,
) -> Result<(), Problem> {
    let further = (identity.check >> 64) as u64;
    let is_another_s = known.is_some_and(|known| known.residue != identity.residue());
    match seen.entry(identity.person) {
        Entry::Occupied(earlier) if *earlier.get() == further && !is_another_s => Ok(()),
        Entry::Vacant(_) if !is_another_s && known.is_none() && !places.take() => {
            Err(Problem::persons_full(places.capacity()))
        }
        Entry::Vacant(place) if !is_another_s => {
            place.insert(further);
            Ok(())
        }
        Entry::Occupied(_) | Entry::Vacant(_) => Err(same_id()),
    }
}

fn same_id() -> Problem {
    let detail = "another document has the same person id; report it to the operator";
    Problem::conflict("document", detail)
}
