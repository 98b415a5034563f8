//! Places for cases that run side by side: as many as the cluster keeps up with. The operator repeats a request that the API
//! server answers too late, and that makes the cluster later still.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// A cluster that is late by more than this has too much to do.
const LATE: Duration = Duration::from_millis(700);

/// The fewest places there can be.
const LEAST: usize = 3;

/// Places for cases.
#[derive(Debug)]
pub struct Places {
    free: Semaphore,
    now: AtomicUsize,
    most: usize,
}

/// The place of a case, until this is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    places: &'a Places,
    permit: Option<SemaphorePermit<'a>>,
}

impl Places {
    /// Returns places for at most `most` cases; at first there are the fewest.
    pub const fn up_to(most: usize) -> Self {
        let now = if most < LEAST { most } else { LEAST };
        Self { free: Semaphore::const_new(now), now: AtomicUsize::new(now), most }
    }

    /// Waits for a place.
    pub async fn place(&self) -> Place<'_> {
        Place { places: self, permit: self.free.acquire().await.ok() }
    }

    /// Takes a place back. From now on there is one more or one less, by how late the cluster is.
    fn leave(&self, permit: SemaphorePermit<'_>, late: Duration) {
        let change = |now: usize| {
            if late > LATE && now > LEAST {
                Some(now - 1)
            } else if late <= LATE && now < self.most {
                Some(now + 1)
            } else {
                None
            }
        };
        match self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change) {
            Ok(before) if late > LATE && before > LEAST => permit.forget(),
            Ok(_) => self.free.add_permits(1),
            Err(_) => {}
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.places.leave(permit, super::late_now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_cluster_is_given_less_to_do() {
        let places = Places::up_to(6);
        for left in [3, 4, 5, 6, 6] {
            assert_eq!(places.free.available_permits(), left);
            drop(places.place().await);
        }
        for left in [5, 4, 3, 3] {
            let mut place = places.place().await;
            places.leave(place.permit.take().unwrap(), LATE * 2);
            assert_eq!(places.free.available_permits(), left);
        }
    }
}
