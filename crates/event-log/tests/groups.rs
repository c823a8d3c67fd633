//! Claim: the members of a group share the partitions, one owner each at any time, and positions outlive them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use event_log::{
    Cleanup, Committed, Consumer, ConsumerEvent, EventLog, LocalLog, LogError, Offset, Partition,
    Record, TopicConfig,
};
use rand::Rng;
use support::{PATIENCE, TOPIC, append_to, open, seeded};

const GROUP: &str = "group";
const PARTITIONS: u32 = 4;

type Member = Box<dyn Consumer>;

fn keeping() -> TopicConfig {
    support::topic(PARTITIONS, Cleanup::KEEP, 1 << 20)
}

fn at(offset: Offset) -> Committed {
    Committed {
        offset,
        metadata: format!("at {offset}"),
    }
}

async fn join(log: &LocalLog) -> Member {
    log.subscribe(GROUP, TOPIC).await.unwrap()
}

/// What is there for a member now.
async fn poll(member: &mut Member) -> ConsumerEvent {
    member.poll(Duration::ZERO).await.unwrap()
}

async fn expect_assigned(member: &mut Member, expected: &[Partition]) {
    let event = poll(member).await;
    assert!(
        matches!(&event, ConsumerEvent::Assigned(is) if is == expected),
        "{event:?}"
    );
}

async fn expect_revoked(member: &mut Member, expected: &[Partition]) {
    let event = poll(member).await;
    assert!(
        matches!(&event, ConsumerEvent::Revoked(is) if is == expected),
        "{event:?}"
    );
}

async fn expect_idle(member: &mut Member) {
    let event = poll(member).await;
    assert!(matches!(event, ConsumerEvent::Idle), "{event:?}");
}

/// Seeks partitions to their committed positions, as members do.
async fn seek_committed(log: &LocalLog, member: &mut Member, partitions: &[Partition]) {
    for partition in partitions {
        let committed = log.committed(GROUP, TOPIC, *partition).await.unwrap();
        member
            .seek(
                *partition,
                committed.map_or(0, |committed| committed.offset),
            )
            .await
            .unwrap();
    }
}

/// Everything that is there for a member now, by partition.
async fn drain(member: &mut Member) -> BTreeMap<Partition, Vec<Offset>> {
    let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
    loop {
        match poll(member).await {
            ConsumerEvent::Records(partition, records) => {
                seen.entry(partition)
                    .or_default()
                    .extend(records.iter().map(|r| r.offset));
            }
            ConsumerEvent::Idle => return seen,
            event => panic!("{event:?}"),
        }
    }
}

async fn append_to_all(log: &LocalLog, count: usize) {
    for number in 0..count {
        for partition in 0..PARTITIONS {
            append_to(log, partition, Record::unkeyed(format!("{number}"))).await;
        }
    }
}

#[tokio::test]
async fn a_single_member_gets_every_partition_and_each_record_once_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    append_to_all(&log, 10).await;
    let mut member = join(&log).await;
    expect_assigned(&mut member, &[0, 1, 2, 3]).await;
    expect_idle(&mut member).await;
    seek_committed(&log, &mut member, &[0, 1, 2, 3]).await;
    let seen = drain(&mut member).await;
    assert!(
        seen.len() == 4
            && seen
                .values()
                .all(|offsets| offsets.iter().copied().eq(0..10))
    );
    append_to_all(&log, 1).await;
    let seen = drain(&mut member).await;
    assert!(seen.len() == 4 && seen.values().all(|offsets| *offsets == [10]));
}

#[tokio::test]
async fn a_partition_is_revoked_from_its_owner_before_the_newcomer_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut first = join(&log).await;
    expect_assigned(&mut first, &[0, 1, 2, 3]).await;
    let mut second = join(&log).await;
    expect_idle(&mut second).await;
    expect_idle(&mut second).await;
    expect_revoked(&mut first, &[1, 3]).await;
    expect_assigned(&mut second, &[1, 3]).await;
    expect_idle(&mut first).await;
    expect_idle(&mut second).await;
}

#[tokio::test]
async fn the_partitions_of_a_member_that_leaves_go_to_the_one_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut first = join(&log).await;
    let mut second = join(&log).await;
    expect_assigned(&mut first, &[0, 2]).await;
    expect_assigned(&mut second, &[1, 3]).await;
    drop(first);
    expect_assigned(&mut second, &[0, 2]).await;
    let mut third = join(&log).await;
    drop(second);
    expect_assigned(&mut third, &[0, 1, 2, 3]).await;
}

#[tokio::test]
async fn a_hand_over_neither_loses_nor_repeats_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    append_to_all(&log, 10).await;
    let mut first = join(&log).await;
    expect_assigned(&mut first, &[0, 1, 2, 3]).await;
    seek_committed(&log, &mut first, &[0, 1, 2, 3]).await;
    for (partition, offsets) in drain(&mut first).await {
        first
            .commit(partition, at(offsets.last().unwrap() + 1))
            .await
            .unwrap();
    }
    append_to_all(&log, 5).await;
    let mut second = join(&log).await;
    expect_revoked(&mut first, &[1, 3]).await;
    expect_assigned(&mut second, &[1, 3]).await;
    seek_committed(&log, &mut second, &[1, 3]).await;
    let of_first = drain(&mut first).await;
    let of_second = drain(&mut second).await;
    assert!(of_first.keys().eq(&[0, 2]) && of_second.keys().eq(&[1, 3]));
    let mut all = of_first.values().chain(of_second.values());
    assert!(all.all(|offsets| offsets.iter().copied().eq(10..15)));
}

#[tokio::test]
async fn a_member_asleep_learns_of_a_join_and_of_a_leave_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let began = Instant::now();
    let long = Duration::from_secs(30);
    let mut first = join(&log).await;
    expect_assigned(&mut first, &[0, 1, 2, 3]).await;
    // `join!` polls in order: the first member is asleep when the second one comes.
    let (revoked, mut second) = tokio::join!(first.poll(long), join(&log));
    assert!(matches!(revoked.unwrap(), ConsumerEvent::Revoked(lost) if lost == [1, 3]));
    expect_assigned(&mut second, &[1, 3]).await;
    let (assigned, ()) = tokio::join!(first.poll(long), async { drop(second) });
    assert!(matches!(assigned.unwrap(), ConsumerEvent::Assigned(gained) if gained == [1, 3]));
    // And one that waits for what another gives up.
    let mut third = join(&log).await;
    let (assigned, revoked) = tokio::join!(third.poll(long), first.poll(long));
    assert!(matches!(assigned.unwrap(), ConsumerEvent::Assigned(gained) if gained == [1, 3]));
    assert!(matches!(revoked.unwrap(), ConsumerEvent::Revoked(lost) if lost == [1, 3]));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_partition_never_has_two_owners_while_members_come_and_go_and_ends_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut random = seeded();
    let mut members: Vec<(Member, BTreeSet<Partition>)> = Vec::new();
    for step in 0..3000 {
        let settle = step % 500 >= 450;
        match random.random_range(0..20) {
            0 if !settle && members.len() < 6 => members.push((join(&log).await, BTreeSet::new())),
            1 if !settle && !members.is_empty() => {
                members.swap_remove(random.random_range(0..members.len()));
            }
            _ if members.is_empty() => {}
            _ => {
                let index = random.random_range(0..members.len());
                match poll(&mut members[index].0).await {
                    ConsumerEvent::Assigned(gained) => {
                        for partition in gained {
                            let owned = members.iter().any(|(_, owns)| owns.contains(&partition));
                            assert!(!owned, "step {step}: {partition} has an owner already");
                            members[index].1.insert(partition);
                        }
                    }
                    ConsumerEvent::Revoked(lost) => {
                        assert!(
                            lost.iter()
                                .all(|partition| members[index].1.remove(partition))
                        );
                    }
                    ConsumerEvent::Idle => {}
                    ConsumerEvent::Records(..) => panic!("the topic is empty"),
                }
            }
        }
    }
    // Two rounds of polls hand everything over.
    if members.is_empty() {
        members.push((join(&log).await, BTreeSet::new()));
    }
    for _ in 0..2 {
        for (member, owns) in &mut members {
            loop {
                match poll(member).await {
                    ConsumerEvent::Assigned(gained) => owns.extend(gained),
                    ConsumerEvent::Revoked(lost) => owns.retain(|p| !lost.contains(p)),
                    _ => break,
                }
            }
        }
    }
    let mut owned: Vec<_> = members.iter().flat_map(|(_, owns)| owns).copied().collect();
    owned.sort_unstable();
    assert_eq!(owned, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_member_more_than_there_are_partitions_waits_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut members = Vec::new();
    for _ in 0..5 {
        members.push(join(&log).await);
    }
    for (partition, member) in members.iter_mut().enumerate().take(4) {
        expect_assigned(member, &[partition as Partition]).await;
    }
    expect_idle(&mut members[4]).await;
    drop(members.swap_remove(3));
    // The last to join has taken the place of the one that left.
    expect_assigned(&mut members[3], &[3]).await;
}

#[tokio::test]
async fn positions_and_their_metadata_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let metadata: String = (b' '..=b'~').map(char::from).collect();
    let committed = Committed {
        offset: 7,
        metadata,
    };
    {
        let log = open(folder.path(), &keeping());
        assert_eq!(log.committed(GROUP, TOPIC, 2).await.unwrap(), None);
        append_to_all(&log, 10).await;
        let mut member = join(&log).await;
        expect_assigned(&mut member, &[0, 1, 2, 3]).await;
        member.commit(2, at(5)).await.unwrap();
        member.commit(2, committed.clone()).await.unwrap();
        assert_eq!(
            log.committed(GROUP, TOPIC, 2).await.unwrap(),
            Some(committed.clone())
        );
    }
    let log = open(folder.path(), &keeping());
    assert_eq!(
        log.committed(GROUP, TOPIC, 2).await.unwrap(),
        Some(committed)
    );
    assert_eq!(log.committed(GROUP, TOPIC, 3).await.unwrap(), None);
    assert_eq!(log.committed("another", TOPIC, 2).await.unwrap(), None);
    let mut member = join(&log).await;
    expect_assigned(&mut member, &[0, 1, 2, 3]).await;
    seek_committed(&log, &mut member, &[2]).await;
    let seen = drain(&mut member).await;
    assert_eq!(seen, BTreeMap::from([(2, vec![7, 8, 9])]));
}

#[tokio::test]
async fn commit_and_seek_of_a_partition_of_someone_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut first = join(&log).await;
    let refused = first.commit(0, at(1)).await.unwrap_err();
    assert!(matches!(refused, LogError::NotAssigned(0)), "{refused}");
    expect_assigned(&mut first, &[0, 1, 2, 3]).await;
    first.commit(1, at(1)).await.unwrap();
    let mut second = join(&log).await;
    // Until it has been told, the old owner may still commit.
    first.commit(1, at(2)).await.unwrap();
    let refused = second.commit(1, at(9)).await.unwrap_err();
    assert!(matches!(refused, LogError::NotAssigned(1)), "{refused}");
    expect_revoked(&mut first, &[1, 3]).await;
    expect_assigned(&mut second, &[1, 3]).await;
    let refused = first.commit(1, at(9)).await.unwrap_err();
    assert!(matches!(refused, LogError::NotAssigned(1)), "{refused}");
    for partition in [1, PARTITIONS, u32::MAX] {
        let refused = first.seek(partition, 0).await.unwrap_err();
        assert!(
            matches!(refused, LogError::NotAssigned(is) if is == partition),
            "{refused}"
        );
        first.set_paused(partition, true);
    }
    assert_eq!(log.committed(GROUP, TOPIC, 1).await.unwrap(), Some(at(2)));
}

#[tokio::test]
async fn metadata_that_is_long_or_not_printable_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut member = join(&log).await;
    expect_assigned(&mut member, &[0, 1, 2, 3]).await;
    let longest = Committed {
        offset: 1,
        metadata: "x".repeat(event_log::MAX_COMMIT_METADATA),
    };
    member.commit(0, longest.clone()).await.unwrap();
    for metadata in [
        format!("{}x", longest.metadata),
        "a\nb".into(),
        "é".into(),
        "\u{7f}".into(),
    ] {
        let refused = member
            .commit(
                0,
                Committed {
                    offset: 2,
                    metadata,
                },
            )
            .await
            .unwrap_err();
        assert!(matches!(refused, LogError::Metadata), "{refused}");
    }
    assert_eq!(log.committed(GROUP, TOPIC, 0).await.unwrap(), Some(longest));
}

#[tokio::test]
async fn a_paused_partition_delivers_nothing_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut member = join(&log).await;
    expect_assigned(&mut member, &[0, 1, 2, 3]).await;
    seek_committed(&log, &mut member, &[0, 1, 2, 3]).await;
    member.set_paused(1, true);
    append_to_all(&log, 5).await;
    let seen = drain(&mut member).await;
    assert!(seen.keys().eq(&[0, 2, 3]), "{seen:?}");
    append_to_all(&log, 5).await;
    let seen = drain(&mut member).await;
    assert!(seen.keys().eq(&[0, 2, 3]), "{seen:?}");
    member.commit(1, at(0)).await.unwrap();
    member.set_paused(1, false);
    assert_eq!(
        drain(&mut member).await,
        BTreeMap::from([(1, (0..10).collect())])
    );
}

#[tokio::test]
async fn a_partition_not_sought_delivers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    append_to_all(&log, 3).await;
    let mut member = join(&log).await;
    expect_assigned(&mut member, &[0, 1, 2, 3]).await;
    assert!(drain(&mut member).await.is_empty());
    member.seek(2, 1).await.unwrap();
    assert_eq!(drain(&mut member).await, BTreeMap::from([(2, vec![1, 2])]));
    // A seek back delivers again.
    member.seek(2, 0).await.unwrap();
    assert_eq!(
        drain(&mut member).await,
        BTreeMap::from([(2, vec![0, 1, 2])])
    );
}

#[tokio::test]
async fn groups_do_not_share_with_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut member = join(&log).await;
    let mut other = log.subscribe("another", TOPIC).await.unwrap();
    expect_assigned(&mut member, &[0, 1, 2, 3]).await;
    expect_assigned(&mut other, &[0, 1, 2, 3]).await;
    member.commit(0, at(4)).await.unwrap();
    assert_eq!(log.committed("another", TOPIC, 0).await.unwrap(), None);
}

#[tokio::test]
async fn no_partition_starves_while_another_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    // Two polls' worth in partition 0, one record in partition 3.
    for _ in 0..5 {
        append_to(&log, 0, Record::unkeyed(vec![0; 2 << 20])).await;
    }
    append_to(&log, 3, Record::unkeyed("small")).await;
    let mut member = join(&log).await;
    expect_assigned(&mut member, &[0, 1, 2, 3]).await;
    seek_committed(&log, &mut member, &[0, 3]).await;
    let mut order = Vec::new();
    while let ConsumerEvent::Records(partition, _) = member.poll(Duration::ZERO).await.unwrap() {
        order.push(partition);
    }
    assert_eq!(order[..2], [0, 3], "{order:?}");
    assert!(
        tokio::time::timeout(PATIENCE, member.poll(Duration::ZERO))
            .await
            .is_ok()
    );
}
