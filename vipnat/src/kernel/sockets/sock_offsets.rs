//! Offsets of fields in the kernel's socket structures, from the kernel's own type description (BTF).
//!
//! It reads the description once, and keeps only the offsets.

use std::{fs, io};

use vipnat_common::abi::SocketOffsets;

/// The kernel's type description.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Kinds of types (include/uapi/linux/btf.h) that have members.
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// The offsets of the running kernel.
pub(crate) fn socket_offsets() -> io::Result<SocketOffsets> {
    let bytes = fs::read(TYPES)?;
    let offsets = Types::new(&bytes).and_then(|types| types.socket_offsets());
    offsets.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this kernel's types ({TYPES}) do not say where sockets have their addresses"),
        )
    })
}

/// A type description in the format of Documentation/bpf/btf.rst.
struct Types<'a> {
    /// The bytes of each type, by id: its header and the data after it. Id 0 is `void`.
    types: Vec<&'a [u8]>,
    strings: &'a [u8],
}

impl<'a> Types<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        // Magic, version and flags come first, then the length of the header. Offsets count from its end.
        let rest = bytes.get(word(bytes, 4)? as usize..)?;
        let part = |offset, length| {
            let offset = word(bytes, offset)? as usize;
            rest.get(offset..offset.checked_add(word(bytes, length)? as usize)?)
        };
        let (mut all, strings) = (part(8, 12)?, part(16, 20)?);
        let mut types: Vec<&[u8]> = vec![&[]];
        while !all.is_empty() {
            let info = word(all, 4)?;
            let count = (info & 0xffff) as usize;
            let more = match info >> 24 & 0x1f {
                // Integers, variables, tags of declarations.
                1 | 14 | 17 => 4,
                // Arrays.
                3 => 12,
                // Structures, unions, sections, enumerations of 64 bits.
                STRUCT | UNION | 15 | 19 => 12 * count,
                // Enumerations, parameters.
                6 | 13 => 8 * count,
                // Pointers, names, qualifiers, functions, floats.
                2 | 7..=12 | 16 | 18 => 0,
                _ => return None,
            };
            let (one, others) = all.split_at_checked(12 + more)?;
            types.push(one);
            all = others;
        }
        Some(Self { types, strings })
    }

    fn socket_offsets(&self) -> Option<SocketOffsets> {
        let [common, sock, net, ns] =
            ["sock_common", "sock", "net", "ns_common"].map(|name| self.structure(name));
        let (common, sock) = (common?, sock?);
        let start = self.member(sock, "__sk_common")?;
        let of_common = |name: &str| Some(start + self.member(common, name)?);
        Some(SocketOffsets {
            family: of_common("skc_family")?,
            protocol: self.member(sock, "sk_protocol")?,
            state: of_common("skc_state")?,
            local_port: of_common("skc_num")?,
            remote_port: of_common("skc_dport")?,
            device: of_common("skc_bound_dev_if")?,
            namespace: of_common("skc_net")?,
            namespace_number: self.member(net?, "ns")? + self.member(ns?, "inum")?,
            local_v4: of_common("skc_rcv_saddr")?,
            remote_v4: of_common("skc_daddr")?,
            local_v6: of_common("skc_v6_rcv_saddr")?,
            remote_v6: of_common("skc_v6_daddr")?,
        })
    }

    /// The structure of this name.
    fn structure(&self, name: &str) -> Option<&'a [u8]> {
        let is_it = |one: &&&[u8]| kind(one) == Some(STRUCT) && self.has_name(one, name);
        self.types.iter().find(is_it).copied()
    }

    /// The offset of a member in bytes. The member may be in a nameless structure inside.
    fn member(&self, of: &[u8], name: &str) -> Option<u32> {
        let bit_fields = word(of, 4)? >> 31 == 1;
        of.get(12..)?.chunks_exact(12).find_map(|member| {
            let bits = word(member, 8)?;
            // In a structure with bit fields, the upper byte is the size of a bit field, or 0.
            let (bits, whole) =
                if bit_fields { (bits & 0xff_ffff, bits >> 24 == 0) } else { (bits, true) };
            if self.has_name(member, name) {
                return (whole && bits % 8 == 0).then_some(bits / 8);
            }
            let inner = self.types.get(word(member, 4)? as usize)?;
            let nameless = self.has_name(member, "") && [STRUCT, UNION].contains(&kind(inner)?);
            Some(bits / 8 + nameless.then(|| self.member(inner, name))??)
        })
    }

    /// Whether a type or member has this name. Both begin with the offset of their name.
    fn has_name(&self, one: &[u8], name: &str) -> bool {
        let name_here = word(one, 0).and_then(|at| self.strings.get(at as usize..));
        let rest = name_here.and_then(|text| text.strip_prefix(name.as_bytes()));
        rest.and_then(<[u8]>::first) == Some(&0)
    }
}

fn kind(one: &[u8]) -> Option<u32> {
    Some(word(one, 4)? >> 24 & 0x1f)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_says_where_a_socket_has_its_addresses() {
        let offsets = socket_offsets().unwrap();
        let SocketOffsets { local_v4, remote_v4, local_v6, remote_v6, .. } = offsets;
        // `skc_addrpair` and the fields after it have these offsets since Linux 3.9.
        assert_eq!((remote_v4, local_v4, local_v6 - remote_v6), (0, 4, 16), "{offsets:?}");
        assert!(offsets.protocol > offsets.namespace && offsets.namespace_number > 0);
    }

    proptest::proptest! {
        #[test]
        fn no_description_panics(mut bytes: Vec<u8>) {
            if let Some(length) = bytes.get_mut(4..8) {
                length.copy_from_slice(&24u32.to_ne_bytes());
            }
            let _ = Types::new(&bytes).and_then(|types| types.socket_offsets());
        }
    }
}
