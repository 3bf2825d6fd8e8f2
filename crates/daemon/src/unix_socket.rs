use rustix::{
    fs::{Mode, fchmod},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
};
use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixListener as StdListener,
        },
    },
    path::{Path, PathBuf},
};
use thiserror::Error;
use tokio::net::UnixListener;

/// The longest path of a socket in bytes. Linux takes 107 (`sun_path` of unix(7), less the final zero); a little is
/// kept back for a socket beside it with a longer name, such as `direct.sock` beside `agent.sock`.
const MAX_SOCKET_PATH: usize = 100;

/// Connections that may wait to be accepted. The kernel lowers it to `net.core.somaxconn`, by default 4096.
const BACKLOG: i32 = 1024;

/// Why a unix socket could not be opened for listening.
#[derive(Debug, Error)]
pub enum BindUnixError {
    /// The path is longer than the system allows for sockets. Nothing was touched.
    #[error(
        "the socket path {} has {length} bytes, more than {MAX_SOCKET_PATH}; choose a shorter one",
        path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Something that is no socket is in the way. Nothing was touched.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Somebody listens there. Nothing was touched.
    #[error("another process listens on {}; end it first or choose another path", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system refused. A stale socket may have been removed.
    #[error("cannot {action} the socket {}; check that its directory exists and that this user may write there", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Listens on a unix socket at `path` with permission bits `mode`, such as 0o660.
///
/// A socket that is there already is removed only if nobody answers on it. At no moment may more than `mode` connect.
/// Two processes that start on one path at the same moment can both find it stale; the lock on their state directory
/// is what keeps them apart.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, BindUnixError> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(BindUnixError::PathTooLong { path: path.to_owned(), length });
    }
    let failed = |action| move |source| BindUnixError::Io { action, path: path.to_owned(), source };
    let address = SocketAddrUnix::new(path).map_err(|errno| failed("name")(errno.into()))?;
    make_room(path, &address)?;
    let socket = listening(path, &address, mode).map_err(failed("open"))?;
    UnixListener::from_std(StdListener::from(socket)).map_err(failed("watch"))
}

/// Removes a stale socket at `path`.
fn make_room(path: &Path, address: &SocketAddrUnix) -> Result<(), BindUnixError> {
    let failed = |action| move |source| BindUnixError::Io { action, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindUnixError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let probe = stream_socket().map_err(failed("probe"))?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed("remove the stale")),
        Err(Errno::NOENT) => Ok(()),
        // A full queue (AGAIN) and another kind of socket (PROTOTYPE) have somebody behind them too.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(BindUnixError::InUse { path: path.to_owned() }),
        Err(errno) => Err(failed("probe")(errno.into())),
    }
}

fn listening(path: &Path, address: &SocketAddrUnix, mode: u32) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    // Linux makes the file with the socket's own mode less the umask: never wider than wanted, and then put right.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    bind(&socket, address)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn it_listens_with_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o660, 0o600, 0o666] {
            let path = dir.path().join(format!("{mode:o}.sock"));
            let listener = bind_unix(&path, mode).unwrap();
            assert_eq!(mode_of(&path), mode);
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(b"!").await.unwrap();
            assert_eq!(listener.accept().await.unwrap().0.read_u8().await.unwrap(), b'!');
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let first = bind_unix(&path, 0o660).unwrap();
        assert!(matches!(bind_unix(&path, 0o660), Err(BindUnixError::InUse { .. })));
        UnixStream::connect(&path).await.expect("the first listener was harmed");
        drop(first);
        assert!(path.exists());
        let second = bind_unix(&path, 0o660).unwrap();
        UnixStream::connect(&path).await.unwrap();
        drop(second);
    }

    #[tokio::test]
    async fn other_things_in_the_way_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "theirs").unwrap();
        assert!(matches!(bind_unix(&file, 0o660), Err(BindUnixError::NotASocket { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"theirs");

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(matches!(bind_unix(&link, 0o660), Err(BindUnixError::NotASocket { .. })));

        let datagrams = dir.path().join("datagrams");
        let _theirs = UnixDatagram::bind(&datagrams).unwrap();
        assert!(matches!(bind_unix(&datagrams, 0o660), Err(BindUnixError::InUse { .. })));
    }

    #[tokio::test]
    async fn a_long_path_and_a_missing_directory_are_explained() {
        let dir = tempfile::tempdir().unwrap();
        let length = MAX_SOCKET_PATH - dir.path().as_os_str().len() - 1;
        bind_unix(&dir.path().join("x".repeat(length)), 0o660).unwrap();
        let error = bind_unix(&dir.path().join("x".repeat(length + 1)), 0o660).unwrap_err().to_string();
        assert!(error.contains("has 101 bytes, more than 100; choose a shorter one"), "{error}");
        let error = bind_unix(&dir.path().join("no/agent.sock"), 0o660).unwrap_err().to_string();
        assert!(error.contains("check that its directory exists"), "{error}");
        assert!(bind_unix(Path::new("/tmp/a\0b"), 0o660).is_err());
    }
}
