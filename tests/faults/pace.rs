//! How many cases are played at a time: as many as the API server keeps up with. What it is too late with is given up and
//! asked again, which makes it later still.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// An API server that was late by more than this in one case has too much to do.
const LATE: Duration = Duration::from_secs(4);

/// As few at a time as can be.
const LEAST: usize = 4;

/// Places for cases.
pub struct Pace {
    places: Semaphore,
    now: Cell<usize>,
    most: usize,
}

impl Pace {
    /// Begins with half as many as there may be at most.
    pub fn up_to(most: usize) -> Self {
        let now = (most / 2).max(1);
        Self { places: Semaphore::new(now), now: Cell::new(now), most }
    }

    /// A place for a case, once there is one.
    pub async fn place(&self) -> SemaphorePermit<'_> {
        self.places.acquire().await.unwrap()
    }

    /// A case is over: there is a place more or less from now on, by how late the API server was in it.
    pub fn leave(&self, place: SemaphorePermit<'_>, late: Duration) {
        let now = self.now.get();
        if late > LATE && now > LEAST {
            self.now.set(now - 1);
            place.forget();
        } else if late <= LATE && now < self.most {
            self.now.set(now + 1);
            self.places.add_permits(1);
        }
    }
}

#[tokio::test]
async fn a_late_api_server_is_given_less_to_do() {
    let pace = Pace::up_to(12);
    assert_eq!(pace.places.available_permits(), 6);
    for places in [5, 4, 4] {
        pace.leave(pace.place().await, LATE * 2);
        assert_eq!(pace.places.available_permits(), places);
    }
    for places in [5, 6, 7, 8, 9, 10, 11, 12, 12] {
        pace.leave(pace.place().await, Duration::ZERO);
        assert_eq!(pace.places.available_permits(), places);
    }
}
