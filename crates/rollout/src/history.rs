//! The release history: its records and their order (design D12).
//!
//! The order makes the guide's `releaseHistory[-2]` right. It is the previous release after a success, and the active
//! release while an attempt runs or after it failed.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::health::Verdict;
use crate::intent::Wanted;
use api::names::Color;
use api::status::{RecordStatus, ReleaseRecord, Trigger};

/// The version name of a release without a record: the user's name if it is free, else one of time and hash.
///
/// The second value is the user's name if it is ignored. `kept` are the names of ControllerRevisions that exist for
/// releases outside the history.
pub fn name_release(
    history: &[ReleaseRecord],
    kept: &[&str],
    wanted: &Wanted,
    now: Timestamp,
) -> (String, Option<String>) {
    let taken =
        |version: &str| kept.contains(&version) || history.iter().any(|record| record.version == version);
    let asked = wanted.release_version.as_ref();
    if let Some(version) = asked.filter(|version| !taken(version)) {
        return (version.clone(), None);
    }
    let short = wanted.hash.get(..7).unwrap_or(&wanted.hash);
    let generated = (0..=i64::try_from(history.len()).unwrap_or(i64::MAX)).find_map(|bump| {
        let second = now.as_second().saturating_add(bump);
        let time = Timestamp::from_second(second).ok()?;
        let version = format!("v{}-{short}", time.strftime("%Y%m%d-%H%M%S"));
        (!taken(&version)).then_some(version)
    });
    (generated.unwrap_or_else(|| format!("v{}-{short}", now.as_second())), asked.cloned())
}

/// Starts an attempt: its record comes last, the Active one directly before it. Returns the version.
///
/// An existing record of the same template is reused with its version. An Active record stays Active: a restart.
pub fn start_attempt(
    history: &mut Vec<ReleaseRecord>,
    wanted: &Wanted,
    version: String,
    color: Color,
    trigger: Trigger,
    now: Timestamp,
) -> String {
    let known = history.iter().position(|record| record.hash == wanted.hash).map(|at| history.remove(at));
    let mut record = known.unwrap_or_else(|| ReleaseRecord {
        version,
        hash: wanted.hash.clone(),
        strategy: color,
        storage_tag: String::new(),
        schema_tag: String::new(),
        storage_image: String::new(),
        schema_image: String::new(),
        timestamp: Time(now),
        status: RecordStatus::Pending,
        trigger,
        activated_at: None,
        ready_at: None,
        finished_at: None,
        reason: None,
        message: None,
    });
    // A release with a ControllerRevision keeps its recorded images, although the default repository may have changed.
    let recorded = record.activated_at.is_some() || record.status == RecordStatus::Failed;
    if !recorded {
        record.storage_tag.clone_from(&wanted.images.storage.tag);
        record.schema_tag.clone_from(&wanted.images.schema.tag);
        record.storage_image.clone_from(&wanted.images.storage.reference);
        record.schema_image.clone_from(&wanted.images.schema.reference);
    }
    record.timestamp = Time(now);
    record.trigger = trigger;
    record.ready_at = None;
    record.finished_at = None;
    record.reason = None;
    record.message = None;
    if record.status != RecordStatus::Active {
        record.status = RecordStatus::Pending;
        record.strategy = color;
    }
    let version = record.version.clone();
    history.push(record);
    sort_during_rollout(history, &version);
    version
}

/// Sorts for the time of an attempt: the attempt last, the Active record directly before it.
pub fn sort_during_rollout(history: &mut Vec<ReleaseRecord>, attempt: &str) {
    sort_served(history);
    let active = history.iter().position(|record| record.status == RecordStatus::Active);
    let active = active.map(|at| history.remove(at));
    history.extend(active);
    let attempt = history.iter().position(|record| record.version == attempt);
    let attempt = attempt.map(|at| history.remove(at));
    history.extend(attempt);
}

/// Ends a canceled attempt. Its template is not blocked. A canceled restart leaves no trace, since its release is
/// active.
pub fn abandon(history: &mut [ReleaseRecord], version: &str, why: Verdict, now: Timestamp) {
    let serves = |record: &ReleaseRecord| record.version == version && record.status == RecordStatus::Active;
    if history.iter().any(serves) {
        return;
    }
    finish(history, version, RecordStatus::Superseded, why, now);
}

/// Ends a failed attempt. Its template is blocked until a user asks for it.
pub fn fail(history: &mut [ReleaseRecord], version: &str, why: Verdict, now: Timestamp) {
    finish(history, version, RecordStatus::Failed, why, now);
}

fn finish(history: &mut [ReleaseRecord], version: &str, status: RecordStatus, why: Verdict, now: Timestamp) {
    if let Some(record) = find(history, version) {
        // A failed restart leaves its release Active.
        if record.status != RecordStatus::Active {
            record.status = status;
        }
        record.finished_at = Some(Time(now));
        record.reason = Some(why.reason);
        record.message = Some(why.message);
    }
}

/// Makes the Active record Superseded, before another becomes Active.
pub fn clear_active(history: &mut [ReleaseRecord]) {
    for record in history.iter_mut().filter(|record| record.status == RecordStatus::Active) {
        record.status = RecordStatus::Superseded;
    }
}

/// The activation time of a release: now, but later than every other activation, even with a wrong clock.
///
/// These times give the order in which releases were active.
fn serves_since(history: &[ReleaseRecord], now: Timestamp) -> Time {
    let last = history.iter().filter_map(|record| record.activated_at.as_ref()).map(|time| time.0).max();
    let next = last.and_then(|last| last.checked_add(SignedDuration::from_secs(1)).ok());
    Time(next.map_or(now, |next| next.max(now)))
}

/// Makes a release Active and sorts the history.
pub fn activate(history: &mut Vec<ReleaseRecord>, version: &str, color: Color, now: Timestamp) {
    clear_active(history);
    let since = serves_since(history, now);
    if let Some(record) = find(history, version) {
        record.status = RecordStatus::Active;
        record.strategy = color;
        record.activated_at = Some(since);
        record.finished_at = Some(Time(now));
        record.reason = None;
        record.message = None;
    }
    sort_settled(history);
}

/// Makes a previous release Active again.
pub fn reactivate(history: &mut [ReleaseRecord], version: &str, color: Color, now: Timestamp) {
    clear_active(history);
    let since = serves_since(history, now);
    if let Some(record) = find(history, version) {
        record.status = RecordStatus::Active;
        record.strategy = color;
        record.activated_at = Some(since);
    }
}

/// Returns whether a release is a rollback target.
fn is_good(record: &ReleaseRecord) -> bool {
    record.status == RecordStatus::Superseded && record.activated_at.is_some()
}

/// Sorts the rollback targets among themselves by their last activation.
///
/// A canceled new attempt moves a record out of that order.
fn sort_served(history: &mut [ReleaseRecord]) {
    let mut good: Vec<_> = history.iter().filter(|record| is_good(record)).cloned().collect();
    good.sort_by_key(|record| record.activated_at.as_ref().map(|time| time.0));
    history.iter_mut().filter(|record| is_good(record)).zip(good).for_each(|(place, record)| *place = record);
}

/// Sorts for the time without an attempt: Active last, the most recent rollback target directly before it.
pub fn sort_settled(history: &mut Vec<ReleaseRecord>) {
    sort_served(history);
    let good = history.iter().rposition(is_good);
    let good = good.map(|at| history.remove(at));
    let active = history.iter().position(|record| record.status == RecordStatus::Active);
    let active = active.map(|at| history.remove(at));
    history.extend(good);
    history.extend(active);
}

/// Drops a record if a later, an Active or a Pending one has the same template.
///
/// Such records come from ControllerRevisions that another client copied.
pub fn drop_duplicates(history: &mut Vec<ReleaseRecord>) {
    let runs = |record: &ReleaseRecord| matches!(record.status, RecordStatus::Active | RecordStatus::Pending);
    let doubled = |at: usize, record: &ReleaseRecord| {
        let mut others = history.iter().enumerate().filter(|(other, _)| *other != at);
        !record.hash.is_empty()
            && !runs(record)
            && others.any(|(other, twin)| twin.hash == record.hash && (other > at || runs(twin)))
    };
    let dropped: Vec<bool> = history.iter().enumerate().map(|(at, record)| doubled(at, record)).collect();
    let mut dropped = dropped.into_iter();
    history.retain(|_| !dropped.next().unwrap_or_default());
}

/// Drops the oldest records beyond `limit`, but never an Active or Pending one, nor the last two.
pub fn trim(history: &mut Vec<ReleaseRecord>, limit: usize) {
    while history.len() > limit.max(2) {
        let droppable = history.len().saturating_sub(2);
        let Some(at) = history
            .iter()
            .take(droppable)
            .position(|record| matches!(record.status, RecordStatus::Superseded | RecordStatus::Failed))
        else {
            return;
        };
        history.remove(at);
    }
}

/// The record of a version, for a change.
pub fn find<'a>(history: &'a mut [ReleaseRecord], version: &str) -> Option<&'a mut ReleaseRecord> {
    history.iter_mut().find(|record| record.version == version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Image;
    use api::names::PerComponent;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn wanted(hash: &str) -> Wanted {
        let image = Image { tag: hash.into(), reference: format!("r/x:{hash}") };
        Wanted {
            hash: hash.into(),
            images: PerComponent { storage: image.clone(), schema: image },
            release_version: None,
        }
    }

    fn why() -> Verdict {
        Verdict::plain("X", "x".into())
    }

    fn start(history: &mut Vec<ReleaseRecord>, hash: &str, second: i64) {
        start_attempt(history, &wanted(hash), hash.into(), Color::Blue, Trigger::Spec, at(second));
    }

    fn release(history: &mut Vec<ReleaseRecord>, hash: &str, second: i64) {
        start(history, hash, second);
        activate(history, hash, Color::Blue, at(second + 1));
    }

    fn versions(history: &[ReleaseRecord]) -> String {
        history.iter().map(|record| record.version.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn minus_two_is_the_previous_release_after_success_and_the_serving_one_otherwise() {
        let mut history = vec![];
        release(&mut history, "a", 0);
        release(&mut history, "b", 10);
        assert_eq!(versions(&history), "a b");
        start(&mut history, "c", 20);
        assert_eq!(versions(&history), "a b c", "while deploying, [-2] serves");
        fail(&mut history, "c", why(), at(30));
        assert_eq!(versions(&history), "a b c", "after an automatic rollback, [-2] serves");
        start(&mut history, "d", 40);
        assert_eq!(versions(&history), "a c b d");
        fail(&mut history, "d", why(), at(50));
        assert_eq!(versions(&history), "a c b d", "two failures in a row: [-2] still serves");
        sort_settled(&mut history);
        assert_eq!(versions(&history), "c d a b", "once the block is cleared, [-2] is the one before");
    }

    #[test]
    fn a_release_that_is_tried_again_and_given_up_stands_where_it_last_served() {
        let mut history = vec![];
        for (second, hash) in [(0, "a"), (10, "e"), (20, "b")] {
            release(&mut history, hash, second);
        }
        start(&mut history, "a", 30);
        abandon(&mut history, "a", why(), at(31));
        assert_eq!(versions(&history), "e b a", "the newest attempt is last");
        start(&mut history, "c", 40);
        assert_eq!(versions(&history), "a e b c");
        fail(&mut history, "c", why(), at(50));
        start(&mut history, "e", 60);
        abandon(&mut history, "e", why(), at(61));
        sort_settled(&mut history);
        assert_eq!(versions(&history), "a c e b");
    }

    #[test]
    fn what_served_last_does_not_depend_on_clocks() {
        let mut history = vec![];
        for (second, hash) in [(0, "a"), (600, "b"), (10, "c"), (20, "d")] {
            release(&mut history, hash, second);
        }
        assert_eq!(
            versions(&history),
            "a b c d",
            "b was served by an operator whose clock was ten minutes ahead"
        );
        clear_active(&mut history);
        reactivate(&mut history, "c", Color::Blue, at(25));
        sort_settled(&mut history);
        assert_eq!(versions(&history), "a b d c");
    }

    #[test]
    fn a_rollback_reuses_the_record_and_can_be_toggled() {
        let mut history = vec![];
        release(&mut history, "a", 0);
        release(&mut history, "b", 10);
        release(&mut history, "a", 20);
        assert_eq!(versions(&history), "b a");
        assert_eq!(history.iter().filter(|record| record.status == RecordStatus::Active).count(), 1);
        release(&mut history, "b", 30);
        assert_eq!(versions(&history), "a b");
    }

    #[test]
    fn a_failed_restart_leaves_the_serving_record_active() {
        let mut history = vec![];
        release(&mut history, "a", 0);
        start(&mut history, "a", 10);
        fail(&mut history, "a", why(), at(20));
        assert_eq!(history[0].status, RecordStatus::Active);
    }

    #[test]
    fn names_are_unique_and_the_users_name_is_taken_once() {
        let mut history = vec![];
        let (first, _) = name_release(&history, &[], &wanted("0123456789"), at(0));
        assert!(first.ends_with("-0123456"), "{first}");
        start_attempt(&mut history, &wanted("x"), first.clone(), Color::Blue, Trigger::Spec, at(0));
        let (second, _) = name_release(&history, &[], &wanted("0123456789"), at(0));
        assert_ne!(first, second);
        let named = Wanted { release_version: Some("summer".into()), ..wanted("y") };
        assert_eq!(name_release(&history, &[], &named, at(0)), ("summer".into(), None));
        start_attempt(&mut history, &named, "summer".into(), Color::Blue, Trigger::Spec, at(1));
        let again = Wanted { release_version: Some("summer".into()), ..wanted("z") };
        assert_eq!(name_release(&history, &[], &again, at(0)).1, Some("summer".into()));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// For all names that users choose, all times and all similar hashes: two releases have different names, and each
        /// name is a label value.
        #[test]
        fn no_two_releases_have_one_name(
            releases in proptest::collection::vec(
                (0..3_i64, "[ab]{7}[a-d]", proptest::option::of("[ab]|v20260921-14132[01]-[ab]{7}")), 1..24),
        ) {
            let mut history: Vec<ReleaseRecord> = vec![];
            for (second, hash, name) in releases {
                let asked = Wanted { release_version: name, ..wanted(&hash) };
                let (version, ignored) = name_release(&history, &[], &asked, at(second));
                proptest::prop_assert!(ignored.is_none() || asked.release_version == ignored);
                proptest::prop_assert!(version.len() <= 63, "{}", version);
                if history.iter().all(|record| record.hash != hash) {
                    let taken = history.iter().any(|record| record.version == version);
                    proptest::prop_assert!(!taken, "{} names two releases", version);
                }
                start_attempt(&mut history, &asked, version, Color::Blue, Trigger::Spec, at(second));
            }
        }
    }

    #[test]
    fn trimming_spares_active_pending_and_the_rollback_target() {
        let mut history = vec![];
        for (n, hash) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            release(&mut history, hash, 10 * i64::try_from(n).unwrap());
        }
        trim(&mut history, 2);
        assert_eq!(versions(&history), "d e");
        start(&mut history, "f", 100);
        trim(&mut history, 2);
        assert_eq!(versions(&history), "e f");
        assert_eq!(history[0].status, RecordStatus::Active);
    }
}
