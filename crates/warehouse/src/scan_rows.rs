//! Scans as rows of the raw table, in RowBinary: the columns of `migrations/0001_scans.sql`, in their order.

use bytes::BufMut;
use scan_model::enrolment::Sex;
use scan_model::scan::{Carrier, Direction, Disposition, TemperatureBand};
use std::collections::BTreeSet;

use scan_model::{Scan, ScanKind, Timestamp};

use crate::ownership::Epoch;
use crate::replicas;
use crate::store::{Store, StoreError};
use crate::topology::Topology;

/// The statement that goes with [`encode`], for rows of one log partition, sent under a claim. It names the partition, so that
/// [`running_inserts`] tells whose it is: a comment for one server, and a setting, which goes along to another server.
pub fn insert_statement(log_partition: u32, epoch: Epoch) -> String {
    let mark = mark(log_partition);
    format!(
        "INSERT INTO scans /* {mark} */ SETTINGS log_comment = '{epoch} {mark}' FORMAT RowBinary"
    )
}

fn mark(log_partition: u32) -> String {
    format!("log partition {log_partition}")
}

/// How many inserts into raw are running for some log partitions, on any server. When it says none, every acknowledged insert is
/// where the next statement looks.
pub async fn running_inserts(
    store: &Store,
    log_partitions: &BTreeSet<u32>,
) -> Result<usize, StoreError> {
    #[derive(serde::Deserialize)]
    struct Running {
        mark: String,
    }
    // The embedded engine shows statements without their settings.
    let mark_of = match store.topology() {
        Topology::SingleServer => {
            "extract(substring(query, 1, 100), '^INSERT INTO scans /\\\\* (log partition \\\\d+) \\\\*/')"
        }
        Topology::Cluster(_) => "extract(Settings['log_comment'], 'log partition \\\\d+$')",
    };
    let processes = store.topology().system_table("processes");
    let sql = format!(
        "SELECT {mark_of} AS mark FROM {processes} WHERE query_kind = 'Insert' AND mark != ''"
    );
    let running: Vec<Running> = store.rows(&sql, &[]).await?;
    let ours: BTreeSet<String> = log_partitions.iter().copied().map(mark).collect();
    let count = running.iter().filter(|r| ours.contains(&r.mark)).count();
    if count == 0 {
        replicas::catch_up(store).await?;
    }
    Ok(count)
}

/// Bytes of the largest row.
pub const LARGEST: usize = 131;

/// Where the log keeps a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    /// The log partition.
    pub log_partition: u32,
    /// The offset in it.
    pub log_offset: u64,
    /// When the log took it.
    pub appended_at: Timestamp,
}

/// Appends one row.
///
/// Enum values are written by exhaustive matches, because the engine does not check them in RowBinary.
pub fn encode(rows: &mut Vec<u8>, place: LogPlace, scan: &Scan) {
    let LogPlace {
        log_partition,
        log_offset,
        appended_at,
    } = place;
    rows.put_u16_le(log_partition as u16);
    rows.put_u64_le(log_offset);
    put_uuid(rows, scan.scan_id.0);
    rows.put_u64_le(scan.person.0);
    rows.put_i8(match scan.kind {
        ScanKind::TemperatureScreening => 0,
        ScanKind::QuickCheckIn => 1,
        ScanKind::Display => 2,
        ScanKind::GridCollection => 3,
        ScanKind::CompoundPass => 4,
        ScanKind::ReleaseNotice => 5,
    });
    rows.put_i8(scan.site.map_or(-1, |site| site.kind as i8));
    rows.put_u32_le(scan.site.map_or(0, |site| site.id.0));
    rows.put_u16_le(scan.checkpoint);
    rows.put_u32_le(scan.region);
    rows.put_i8(scan.venue_type as i8);
    rows.put_i8(match scan.direction {
        Direction::Unknown => 0,
        Direction::In => 1,
        Direction::Out => 2,
    });
    rows.put_i8(match scan.band {
        TemperatureBand::NotTaken => 0,
        TemperatureBand::Normal => 1,
        TemperatureBand::Fever => 2,
    });
    match scan.decidegrees {
        Some(reading) => {
            rows.put_u8(0);
            rows.put_i16_le(reading);
        }
        None => rows.put_u8(1),
    }
    rows.put_u8(scan.shown.colour.0);
    rows.put_u16_le(scan.shown.categories.0);
    rows.put_u16_le(scan.shown.version);
    rows.put_i8(match scan.disposition {
        Disposition::Admitted => 0,
        Disposition::Refused => 1,
        Disposition::Referred => 2,
    });
    rows.put_i8(match scan.sex {
        Sex::Unknown => 0,
        Sex::Male => 1,
        Sex::Female => 2,
    });
    rows.put_i16_le(age(scan));
    rows.put_i8(match scan.carrier {
        Carrier::AppCode => 0,
        Carrier::RotatingCode => 1,
        Carrier::PaperCode => 2,
        Carrier::Document => 3,
    });
    rows.put_u64_le(scan.operator);
    rows.put_i64_le(scan.event_time.0);
    rows.put_i64_le(scan.received_at.0);
    rows.put_i64_le(appended_at.0);
    put_uuid(rows, scan.corrects.map_or(0, |id| id.0));
    put_uuid(rows, scan.party.unwrap_or(0));
    rows.put_u8(u8::from(scan.synthetic));
    rows.put_u8(u8::from(scan.is_registration()));
    rows.put_u8(u8::from(is_fever(scan)));
    rows.put_u8(u8::from(scan.is_red_encounter()));
    rows.put_u8(u8::from(
        scan.kind.is_registration() && scan.disposition == Disposition::Refused,
    ));
}

/// Whether the scan counts as a fever: screened as one at a site, let in or not.
pub fn is_fever(scan: &Scan) -> bool {
    scan.kind.is_registration() && scan.band == TemperatureBand::Fever
}

/// Age in the year of the scan: that year less the birth year; −1 for unknown.
pub fn age(scan: &Scan) -> i16 {
    scan.birth_year.map_or(-1, |year| {
        (scan.event_time.shanghai_year() - year as i16).clamp(0, 200)
    })
}

/// ClickHouse keeps a UUID as two little-endian halves, the high one first.
fn put_uuid(rows: &mut Vec<u8>, uuid: u128) {
    rows.put_u64_le((uuid >> 64) as u64);
    rows.put_u64_le(uuid as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use scan_model::scan::ShownStatus;
    use scan_model::{CategorySet, Colour, PersonId, ScanId, VenueType};

    #[test]
    fn the_largest_row_has_a_reading() {
        let scan = Scan {
            scan_id: ScanId(1),
            person: PersonId(1),
            kind: ScanKind::Display,
            site: None,
            checkpoint: 0,
            region: 0,
            venue_type: VenueType::Unspecified,
            direction: Direction::Unknown,
            band: TemperatureBand::Normal,
            decidegrees: Some(365),
            shown: ShownStatus {
                colour: Colour::GREEN,
                categories: CategorySet::EMPTY,
                version: 1,
            },
            disposition: Disposition::Admitted,
            sex: Sex::Unknown,
            birth_year: None,
            carrier: Carrier::AppCode,
            operator: 0,
            event_time: Timestamp(0),
            received_at: Timestamp(0),
            corrects: None,
            party: None,
            synthetic: false,
        };
        let place = LogPlace {
            log_partition: 0,
            log_offset: 0,
            appended_at: Timestamp(0),
        };
        let mut rows = Vec::new();
        encode(&mut rows, place, &scan);
        assert_eq!(rows.len(), LARGEST);
    }
}
