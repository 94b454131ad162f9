//! Which EndpointSlice an endpoint goes into, and how few writes a change of a Service takes.
//!
//! Source: `staging/src/k8s.io/endpointslice/reconciler.go:reconcileByPortMapping`, `reconcileByAddressType` (the empty
//! placeholder), `finalize` (a slice that would go becomes one that would come), `utils.go:getSliceToFill`. Only endpoints that
//! changed are looked at: the others stay where they are there too. The old Endpoints object is one slice without end,
//! or one of 1,000 since 1.22 (`pkg/controller/endpoint/endpoints_controller.go:truncateEndpoints`).
//!
//! Left out: several port maps of one Service, hints. Go takes endpoints and slices out of its maps in any order; here
//! the order is that of their numbers.

use super::log::{Conditions, Delta, PodId};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Marks a slice that is not there.
const DEAD: u32 = u32::MAX;

/// How endpoints are cut into objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Endpoints of one object.
    pub max: u32,
    /// One object only: what does not fit is left out.
    pub single: bool,
}

/// The slices of one Service: how many endpoints each has.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    lengths: Vec<u32>,
    free: Vec<u32>,
}

/// How one endpoint is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The pod.
    pub pod: PodId,
    /// Its slice, and what that says of it.
    pub from: Option<(u32, Conditions)>,
    /// What slices should say.
    pub to: Option<Conditions>,
}

/// One write of one slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The slice.
    pub slice: u32,
    /// Its endpoints before; none if it is created.
    pub before: Option<u32>,
    /// Its endpoints after; none if it is deleted.
    pub after: Option<u32>,
    /// What changes in it.
    pub deltas: SmallVec<[Delta; 2]>,
}

impl Slices {
    /// Slices of this many endpoints each.
    pub fn of(lengths: impl IntoIterator<Item = u32>) -> Self {
        Slices { lengths: lengths.into_iter().collect(), free: Vec::new() }
    }

    /// Endpoints of each slice that is there.
    pub fn lengths(&self) -> impl Iterator<Item = u32> {
        self.lengths.iter().copied().filter(|len| *len != DEAD)
    }

    fn there(&self) -> usize {
        self.lengths.len() - self.free.len()
    }

    /// A write has happened.
    pub fn apply(&mut self, write: &Write) {
        let slice = write.slice as usize;
        if self.lengths.len() <= slice {
            // Reserved by a plan, created now.
            self.free.extend(self.lengths.len() as u32..write.slice);
            self.lengths.resize(slice + 1, DEAD);
        } else if self.lengths[slice] == DEAD {
            self.free.retain(|free| *free != write.slice);
        }
        let now = (self.lengths[slice] != DEAD).then_some(self.lengths[slice]);
        assert_eq!(now, write.before, "slice {slice} is another by now");
        match write.after {
            Some(len) => self.lengths[slice] = len,
            None => {
                self.lengths[slice] = DEAD;
                self.free.push(write.slice);
            }
        }
    }

    /// The writes that bring `changes` about, at most one a slice. `there` says whether the Service is: if not, all its
    /// slices go. Endpoints that find no room are told to `left_out`.
    pub fn plan(
        &self,
        cut: Cut,
        there: bool,
        changes: &[Wanted],
        mut left_out: impl FnMut(PodId),
    ) -> Vec<Write> {
        let mut touched: BTreeMap<u32, Draft> = BTreeMap::new();
        let mut coming: Vec<(PodId, Conditions)> = Vec::new();
        for wanted in changes {
            match (wanted.from, wanted.to) {
                (Some((slice, from)), to) if Some(from) != to => {
                    let draft = touched.entry(slice).or_insert_with(|| self.draft(slice));
                    draft.len -= u32::from(to.is_none());
                    draft.deltas.push(Delta { pod: wanted.pod, from: Some(from), to });
                }
                (None, Some(to)) => coming.push((wanted.pod, to)),
                _ => {}
            }
        }
        coming.reverse();
        if !there || (!coming.is_empty() && self.there() == 1) {
            // The placeholder of a Service without endpoints goes with the first of them, all slices with the Service.
            for (slice, len) in (0u32..).zip(&self.lengths).filter(|(_, len)| **len != DEAD) {
                if !there || *len == 0 {
                    touched.entry(slice).or_insert_with(|| self.draft(slice));
                }
            }
        }
        let mut creates: Vec<Draft> = Vec::new();
        // 1. Emptied slices are to go; the changed ones are filled up, the fullest first.
        let (mut deletes, mut updates): (Vec<Draft>, Vec<Draft>) =
            touched.into_values().partition(|draft| draft.len == 0 && !cut.single);
        updates.sort_by_key(|draft| std::cmp::Reverse(draft.len));
        updates.iter_mut().for_each(|draft| draft.fill(&mut coming, cut.max));
        if cut.single {
            if self.there() == 0 {
                creates.push(Draft::default());
                creates[0].fill(&mut coming, cut.max);
            } else if updates.is_empty() && !coming.is_empty() && self.lengths[0] < cut.max {
                updates.push(self.draft(0));
                updates[0].fill(&mut coming, cut.max);
            }
            coming.drain(..).rev().for_each(|(pod, _)| left_out(pod));
        }
        // 2. The rest goes into one unchanged slice with room for all of it, else into new ones.
        while !coming.is_empty() {
            let rest = u32::try_from(coming.len()).expect("fewer than 2^32 endpoints");
            let fits = if rest < cut.max { self.to_fill(rest, cut.max, &updates, &deletes) } else { None };
            let mut draft = fits.map_or_else(Draft::default, |slice| self.draft(slice));
            draft.fill(&mut coming, cut.max);
            if fits.is_some() { updates.push(draft) } else { creates.push(draft) }
        }
        // 3. A Service always has a slice, if an empty one.
        if there && !cut.single && creates.is_empty() && deletes.len() == self.there() {
            creates.push(Draft::default());
        }
        // 4. Of one that would go and one that would come, one changes.
        for mut gone in std::mem::take(&mut deletes) {
            match creates.pop() {
                Some(new) => {
                    gone.len = new.len;
                    gone.deltas.extend(new.deltas);
                    updates.push(gone);
                }
                None => deletes.push(gone),
            }
        }
        let mut fresh = self.free.iter().rev().copied().chain(self.lengths.len() as u32..);
        let mut writes = Vec::with_capacity(creates.len() + updates.len() + deletes.len());
        for draft in creates {
            let slice = fresh.next().expect("numbers without end");
            writes.push(Write { slice, before: None, after: Some(draft.len), deltas: draft.deltas });
        }
        updates.sort_by_key(|draft| draft.slice);
        for draft in updates {
            let before = Some(self.lengths[draft.slice as usize]);
            writes.push(Write { slice: draft.slice, before, after: Some(draft.len), deltas: draft.deltas });
        }
        for draft in deletes {
            let before = Some(self.lengths[draft.slice as usize]);
            writes.push(Write { slice: draft.slice, before, after: None, deltas: draft.deltas });
        }
        writes
    }

    fn draft(&self, slice: u32) -> Draft {
        Draft { slice, len: self.lengths[slice as usize], deltas: SmallVec::new() }
    }

    /// The unchanged slice that `rest` endpoints more make fullest.
    fn to_fill(&self, rest: u32, max: u32, updates: &[Draft], deletes: &[Draft]) -> Option<u32> {
        let slices = (0u32..).zip(&self.lengths).filter(|(_, len)| **len != DEAD && **len <= max - rest);
        let unchanged =
            slices.filter(|(slice, _)| !updates.iter().chain(deletes).any(|draft| draft.slice == *slice));
        unchanged.max_by_key(|(slice, len)| (**len, std::cmp::Reverse(*slice))).map(|(slice, _)| slice)
    }
}

/// A slice as it is going to be.
#[derive(Default)]
struct Draft {
    slice: u32,
    len: u32,
    deltas: SmallVec<[Delta; 2]>,
}

impl Draft {
    fn fill(&mut self, coming: &mut Vec<(PodId, Conditions)>, max: u32) {
        while self.len < max {
            let Some((pod, to)) = coming.pop() else { break };
            self.len += 1;
            self.deltas.push(Delta { pod, from: None, to: Some(to) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUNDRED: Cut = Cut { max: 100, single: false };

    fn comes(pods: std::ops::Range<u32>) -> Vec<Wanted> {
        pods.map(|p| Wanted { pod: PodId(p), from: None, to: Some(Conditions::READY) }).collect()
    }

    fn goes(pod: u32, slice: u32) -> Wanted {
        Wanted { pod: PodId(pod), from: Some((slice, Conditions::READY)), to: None }
    }

    fn plan(slices: &[u32], cut: Cut, changes: &[Wanted]) -> Vec<(u32, Option<u32>, Option<u32>, usize)> {
        let slices = Slices::of(slices.iter().copied());
        let writes = slices.plan(cut, true, changes, |_| {});
        writes.iter().map(|w| (w.slice, w.before, w.after, w.deltas.len())).collect()
    }

    #[test]
    fn a_replaced_endpoint_is_one_write_of_its_slice() {
        let both = [goes(0, 1), comes(7..8)[0]];
        assert_eq!(plan(&[100, 100, 50], HUNDRED, &both), [(1, Some(100), Some(100), 2)]);
        let one = Cut { max: 1, single: false };
        assert_eq!(plan(&[1, 1], one, &both), [(1, Some(1), Some(1), 2)]);
    }

    #[test]
    fn new_endpoints_go_into_the_fullest_slice_with_room_for_all_of_them() {
        assert_eq!(plan(&[40, 60, 90], HUNDRED, &comes(0..20)), [(1, Some(60), Some(80), 20)]);
        assert_eq!(plan(&[90, 95], HUNDRED, &comes(0..20)), [(2, None, Some(20), 20)]);
        assert_eq!(
            plan(&[50], HUNDRED, &comes(0..230)),
            [(1, None, Some(100), 100), (2, None, Some(100), 100), (0, Some(50), Some(80), 30)]
        );
    }

    #[test]
    fn changed_slices_are_filled_up_before_others() {
        let mut changes = vec![goes(1, 0), goes(2, 1)];
        changes.extend(comes(10..15));
        let want = [(0, Some(98), Some(97), 1), (1, Some(100), Some(100), 2), (2, Some(50), Some(50), 0)];
        let got = plan(&[98, 100, 50], HUNDRED, &changes);
        assert_eq!(got[1], want[1]);
        assert_eq!(got[0], (0, Some(98), Some(100), 4));
        // The fifth has room in the third slice.
        assert_eq!(got[2], (2, Some(50), Some(51), 1));
    }

    #[test]
    fn a_service_always_keeps_a_slice_and_others_go_when_they_are_empty() {
        assert_eq!(plan(&[1], HUNDRED, &[goes(0, 0)]), [(0, Some(1), Some(0), 1)]);
        assert_eq!(plan(&[1, 5], HUNDRED, &[goes(0, 0)]), [(0, Some(1), None, 1)]);
        assert_eq!(plan(&[], HUNDRED, &[]), [(0, None, Some(0), 0)]);
        assert_eq!(
            plan(&[0], HUNDRED, &comes(0..101)),
            [(1, None, Some(100), 100), (0, Some(0), Some(1), 1)]
        );
    }

    #[test]
    fn with_a_service_all_its_slices_go() {
        let slices = Slices::of([1, 1, 0]);
        let writes = slices.plan(HUNDRED, false, &[goes(0, 0), goes(1, 1)], |_| {});
        assert!(writes.len() == 3 && writes.iter().all(|w| w.after.is_none()), "{writes:?}");
    }

    #[test]
    fn an_endpoints_object_is_one_and_may_be_full() {
        let cut = Cut { max: 1_000, single: true };
        let slices = Slices::of([999]);
        let mut left = Vec::new();
        let writes = slices.plan(cut, true, &comes(0..3), |pod| left.push(pod));
        assert_eq!((writes.len(), writes[0].after, left), (1, Some(1_000), vec![PodId(1), PodId(2)]));
        assert!(Slices::of([1_000]).plan(cut, true, &comes(0..1), |_| {}).is_empty());
    }

    #[test]
    fn plans_do_what_they_say_whatever_comes_and_goes() {
        use proptest::prelude::*;
        let strategy = (1u32..6, proptest::collection::vec((any::<bool>(), any::<u16>()), 1..200));
        proptest!(|((max, steps) in strategy)| {
            let cut = Cut { max, single: false };
            let mut slices = Slices::of([0]);
            let mut at: Vec<Option<u32>> = vec![None; 40];
            for chunk in steps.chunks(7) {
                let mut changes: BTreeMap<u32, Wanted> = BTreeMap::new();
                for &(comes, pick) in chunk {
                    let pod = u32::from(pick) % 40;
                    let from = at[pod as usize].map(|slice| (slice, Conditions::READY));
                    let to = comes.then_some(Conditions::READY);
                    changes.insert(pod, Wanted { pod: PodId(pod), from, to });
                }
                let changes: Vec<Wanted> = changes.into_values().collect();
                for write in slices.plan(cut, true, &changes, |_| {}) {
                    slices.apply(&write);
                    for delta in &write.deltas {
                        at[delta.pod.0 as usize] = delta.to.map(|_| write.slice);
                    }
                }
                for wanted in &changes {
                    prop_assert_eq!(at[wanted.pod.0 as usize].is_some(), wanted.to.is_some());
                }
                let listed = at.iter().flatten().count() as u32;
                prop_assert_eq!(slices.lengths().sum::<u32>(), listed);
                prop_assert!(slices.lengths().count() >= 1 && slices.lengths().all(|len| len <= max));
            }
        });
    }
}
