//! Money: amounts, contributions, journal and their store.
