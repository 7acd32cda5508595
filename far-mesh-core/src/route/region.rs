//! Regions: what their names mean, which lie in which, and how quickly light gets from one to the other.
//!
//! A region is a circle on the globe. Continents are circles that hold the whole of them; names as the large clouds use them
//! hold every place for which one of them uses the name (AWS "Regions and Availability Zones", Google Cloud "Regions and
//! zones", Azure "Azure regions"). Coordinates are those of their cities to whole degrees, set down from memory and not read
//! from a table; the radius takes up what they are off. A circle that is too large only refutes fewer claims.

use std::time::Duration;

/// Kilometres that light runs in a millisecond in glass fibre: two thirds of its speed in vacuum.
const FIBRE_KM_MS: f64 = 200.0;

/// Mean radius of the earth in kilometres (IUGG).
const EARTH_KM: f64 = 6371.0;

/// A circle on the globe: degrees north, degrees east, kilometres.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    name: &'static str,
    /// The region it lies in, where its name does not begin with that.
    within: &'static str,
    north: f64,
    east: f64,
    radius_km: f64,
}

/// Where a request's hops should stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionWish {
    /// As many of the layers there as somebody serves.
    Prefer(String),
    /// All of them, or none.
    Require(String),
}

const fn place(name: &'static str, within: &'static str, north: f64, east: f64, radius_km: f64) -> Place {
    Place { name, within, north, east, radius_km }
}

/// What is known by name. `eu` is the European Union, `europe` the continent.
const PLACES: &[Place] = &[
    place("europe", "", 54.0, 20.0, 3000.0),
    place("eu", "europe", 51.0, 12.0, 2700.0),
    place("eu-west", "", 50.0, 0.0, 900.0),
    place("eu-central", "", 50.0, 13.0, 900.0),
    place("eu-north", "", 61.0, 18.0, 1000.0),
    place("eu-south", "", 42.0, 8.0, 1700.0),
    place("europe-west", "eu", 49.0, 4.0, 1200.0),
    place("europe-central", "eu", 52.0, 17.0, 800.0),
    place("europe-north", "eu", 62.0, 22.0, 900.0),
    place("uk", "europe", 54.0, -3.0, 800.0),
    place("na", "", 48.0, -98.0, 5000.0),
    place("us", "na", 40.0, -98.0, 2800.0),
    place("us-east", "", 38.0, -80.0, 1000.0),
    place("us-central", "", 38.0, -96.0, 1300.0),
    place("us-south", "", 31.0, -97.0, 900.0),
    place("us-west", "", 41.0, -118.0, 1300.0),
    place("ca", "na", 55.0, -95.0, 3300.0),
    place("ca-central", "", 45.0, -76.0, 700.0),
    place("ca-west", "", 51.0, -115.0, 900.0),
    place("sa", "", -18.0, -60.0, 4500.0),
    place("sa-east", "", -23.0, -47.0, 900.0),
    place("sa-west", "", -33.0, -71.0, 900.0),
    place("asia", "", 35.0, 90.0, 6500.0),
    place("ap", "", 5.0, 115.0, 8000.0),
    place("ap-south", "ap", 20.0, 76.0, 1400.0),
    place("ap-east", "", 23.0, 118.0, 900.0),
    place("ap-northeast", "", 36.0, 133.0, 1000.0),
    place("ap-southeast", "", -15.0, 122.0, 4600.0),
    place("cn", "asia", 36.0, 104.0, 3100.0),
    place("jp", "asia", 37.0, 137.0, 1600.0),
    place("in", "asia", 22.0, 79.0, 2000.0),
    place("me", "", 28.0, 45.0, 2500.0),
    place("me-central", "", 25.0, 50.0, 1000.0),
    place("me-south", "", 26.0, 51.0, 500.0),
    place("il", "me", 31.0, 35.0, 400.0),
    place("af", "", 2.0, 17.0, 4800.0),
    place("af-south", "", -30.0, 23.0, 1000.0),
    place("au", "oceania", -27.0, 134.0, 2600.0),
    place("oceania", "", -25.0, 150.0, 6000.0),
];

/// What others call a place of the table.
const ALIASES: &[(&str, &str)] = &[
    ("africa", "af"),
    ("australia", "au"),
    ("canada", "ca"),
    ("gb", "uk"),
    ("middle-east", "me"),
    ("north-america", "na"),
    ("northamerica", "na"),
    ("south-america", "sa"),
    ("southamerica", "sa"),
    ("usa", "us"),
];

/// Whether a node that says it stands in `claim` stands in `region`: the same, a part of it by its name (`eu-west-1` of
/// `eu-west`), or by the table. Any other names are taken as they are, so an operator may use his own.
pub fn lies_in(claim: &str, region: &str) -> bool {
    let (mut claim, region) = (canonical(claim), canonical(region));
    // Each step goes to a larger region; the bound is for a table that would not.
    for _ in 0..8 {
        if claim == region || claim.strip_prefix(&region).is_some_and(|rest| rest.starts_with('-')) {
            return !region.is_empty();
        }
        match known(&claim) {
            Some(place) if !place.within.is_empty() => claim = place.within.to_owned(),
            Some(place) if place.name != claim => claim = place.name.to_owned(),
            Some(_) => match claim.rsplit_once('-') {
                Some((larger, _)) => claim = larger.to_owned(),
                None => return false,
            },
            None => return false,
        }
    }
    false
}

/// The shortest round trip that light in fibre takes between two regions; zero where they touch, `None` where one of the
/// names means nothing.
pub fn least_rtt(one: &str, other: &str) -> Option<Duration> {
    let (one, other) = (known(&canonical(one))?, known(&canonical(other))?);
    let km = (one.distance_km(&other) - one.radius_km - other.radius_km).max(0.0);
    Some(Duration::from_secs_f64(2.0 * km / FIBRE_KM_MS / 1000.0))
}

fn canonical(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    let alias = |(alias, meant): &(&str, &str)| {
        let rest = name.strip_prefix(alias)?;
        (rest.is_empty() || rest.starts_with('-')).then(|| format!("{meant}{rest}"))
    };
    ALIASES.iter().find_map(alias).unwrap_or(name)
}

/// The smallest place of the table whose name begins the given one, number and all: `eu-west` of `eu-west3-b`.
fn known(name: &str) -> Option<Place> {
    let begins = |place: &&Place| {
        let rest = name.strip_prefix(place.name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
    };
    PLACES.iter().filter(begins).max_by_key(|place| place.name.len()).copied()
}

impl Place {
    /// Along the surface (haversine formula, Sinnott 1984).
    fn distance_km(&self, other: &Self) -> f64 {
        let (north, south) = (self.north.to_radians(), other.north.to_radians());
        let half = |one: f64, two: f64| ((one - two).to_radians() / 2.0).sin().powi(2);
        let haversine = half(self.north, other.north) + north.cos() * south.cos() * half(self.east, other.east);
        2.0 * EARTH_KM * haversine.sqrt().min(1.0).asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_lie_in_larger_ones() {
        for (claim, region, inside) in [
            ("eu", "eu", true),
            ("EU-West", "eu", true),
            ("eu-west-3", "eu-west", true),
            ("eu-west-3", "europe", true),
            ("europe-west4-a", "eu", true),
            ("europe-west4-a", "europe", true),
            ("uk", "europe", true),
            ("uk", "eu", false),
            ("us-east-1", "na", true),
            ("north_america", "na", true),
            ("us-east", "eu", false),
            ("eu", "eu-west", false),
            ("europe", "eu", false),
            ("eu-west", "eu-we", false),
            ("rack-7", "rack", true),
            ("rack", "rack", true),
            ("racks", "rack", false),
            ("", "eu", false),
            ("", "", false),
            ("eu", "", false),
        ] {
            assert_eq!(lies_in(claim, region), inside, "{claim:?} in {region:?}");
        }
    }

    #[test]
    fn every_place_lies_in_what_it_says() {
        for place in PLACES {
            assert!(lies_in(place.name, place.name));
            assert!(place.within.is_empty() || lies_in(place.name, place.within), "{place:?}");
            assert!(place.within.is_empty() || known(place.within).is_some(), "{place:?}");
            assert_eq!(canonical(place.name), place.name, "no alias");
            assert!(place.north.abs() <= 90.0 && place.east.abs() <= 180.0 && place.radius_km > 0.0);
        }
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        let at = |north, east| place("", "", north, east, 0.0);
        // Frankfurt and Ashburn are 6,560 km apart, the poles half the circumference.
        let atlantic = at(50.1, 8.7).distance_km(&at(39.0, -77.5));
        assert!((atlantic - 6560.0).abs() < 60.0, "{atlantic}");
        assert!((at(90.0, 0.0).distance_km(&at(-90.0, 70.0)) - 20015.0).abs() < 5.0);
        assert_eq!(at(12.0, 34.0).distance_km(&at(12.0, 34.0)), 0.0);
    }

    #[test]
    fn light_takes_its_time_between_continents() {
        let ms = |one, other| least_rtt(one, other).map(|rtt| rtt.as_millis());
        assert!((35..60).contains(&ms("eu-central", "us-east").unwrap()), "{:?}", ms("eu-central", "us-east"));
        assert!((65..90).contains(&ms("eu-west", "ap-northeast-1").unwrap()), "{:?}", ms("eu-west", "ap-northeast-1"));
        assert_eq!((ms("eu", "eu-west"), ms("eu", "uk")), (Some(0), Some(0)));
        assert_eq!(ms("us-east", "us-central"), Some(0));
        assert_eq!((ms("rack-7", "eu"), ms("", "eu")), (None, None));
        assert_eq!(least_rtt("eu", "us"), least_rtt("us", "eu"));
    }
}
