//! The four column families, and the byte that leads their keys in the one tree below.

/// A key space of its own. The discriminant leads every stored key, so it is part of the format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Cf {
    /// Values: raw ones, and those of transactions that are too long to ride in a record.
    Default = b'd',
    /// Locks of running transactions.
    Lock = b'l',
    /// Commit and rollback records.
    Write = b'w',
    /// Our own metadata, which no client sees.
    Local = b'z',
}

impl Cf {
    /// All of them, in the order of their bytes.
    pub const ALL: [Self; 4] = [Self::Default, Self::Lock, Self::Write, Self::Local];

    /// The byte that leads its keys.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The family whose keys this byte leads.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'd' => Some(Self::Default),
            b'l' => Some(Self::Lock),
            b'w' => Some(Self::Write),
            b'z' => Some(Self::Local),
            _ => None,
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Default => 0,
            Self::Lock => 1,
            Self::Write => 2,
            Self::Local => 3,
        }
    }

    /// Its name on the wire and in scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Lock => "lock",
            Self::Write => "write",
            Self::Local => "local",
        }
    }
}
