//! What an agent finds open when it starts.

use crate::agent::StartError;
use crate::listen::Place;
use crate::takeover::Predecessor;
use echelon_daemon::Activated;

/// What an agent finds open when it starts: sockets of the service manager, and a process to take over from. With
/// neither it opens all by itself.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Sockets that the service manager opened, as [`echelon_daemon::activated`] gives them. Each is used where a
    /// setting names its address; one that no setting names is warned of.
    pub sockets: Vec<Activated>,
    /// The process that runs already, as [`Predecessor::ask`] gives it.
    pub predecessor: Option<Predecessor>,
}

impl Inheritance {
    /// The places that are open.
    pub(crate) fn places(
        sockets: Vec<Activated>,
        predecessor: Option<&mut Predecessor>,
    ) -> Result<Vec<Place>, StartError> {
        let mut places = Vec::with_capacity(sockets.len());
        for Activated { name, socket } in sockets {
            let place = Place::given(name.clone(), socket, true)
                .map_err(|source| StartError::Socket { name, source: source.into() })?;
            places.push(place);
        }
        if let Some(predecessor) = predecessor {
            let mut handed = predecessor.places()?;
            // The service manager gives the same ones to every process that it starts.
            handed.retain(|place| !places.iter().any(|known| known.at() == place.at()));
            places.append(&mut handed);
        }
        Ok(places)
    }
}
