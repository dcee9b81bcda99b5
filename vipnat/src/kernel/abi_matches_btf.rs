//! Checks that Rust and the kernel agree on the layout of keys and values in the maps. It compares the BTF of
//! the built object with the types of `vipnat_common::abi`.

use std::{collections::BTreeMap, mem::offset_of, path::Path, process::Command};

use serde::Deserialize;
use vipnat_common::abi::{
    ConnRecord, Counters, Cursor, Layout, Range, Scope, Slot, UdpFlow, UdpFlows, VipKey,
};

use super::pins::MAP_NAMES;

/// A type as Rust lays it out.
struct Rust {
    name: &'static str,
    size: usize,
    /// Name, offset and size of each field.
    fields: Vec<(&'static str, usize, usize)>,
}

/// A type and all its fields. If one is left out, the test fails, since BTF has it.
macro_rules! rust {
    ($type:ident { $($field:ident),+ }) => {
        Rust {
            name: stringify!($type),
            size: size_of::<$type>(),
            fields: vec![$((
                stringify!($field),
                offset_of!($type, $field),
                size_of_field(|value: &$type| &value.$field),
            )),+],
        }
    };
}

fn size_of_field<T, F>(_: impl Fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The structs that maps contain.
fn structs() -> Vec<Rust> {
    vec![
        rust!(Scope { app, reserved }),
        rust!(VipKey { app, vip, port, protocol, reserved }),
        rust!(Range { first, count }),
        rust!(Slot { owner, ip, port, flags, cursor }),
        rust!(Cursor { turns, udp_connects }),
        rust!(ConnRecord {
            app,
            vip,
            backend,
            vip_port,
            backend_port,
            slot_and_flags,
            stream_after
        }),
        rust!(UdpFlow { record, local_port, flags, expires }),
        rust!(UdpFlows { flows }),
        rust!(Counters { unreachable, unsettled, unrecorded, evicted }),
        rust!(Layout { version, build, last_app }),
    ]
}

/// The key and the value of each map: the name of a struct, or the size of another type.
const MAPS: [(&str, &str, &str); 8] = [
    ("backends", "4", "Slot"),
    ("conns", "4", "ConnRecord"),
    ("counters", "4", "Counters"),
    ("cursors", "4", "Cursor"),
    ("layout", "4", "Layout"),
    ("scope", "8", "Scope"),
    ("udp_flows", "4", "UdpFlows"),
    ("vips", "VipKey", "Range"),
];

/// The types of an object, as `bpftool btf dump` shows them.
#[derive(Deserialize)]
struct Btf {
    types: Vec<Type>,
}

#[derive(Deserialize)]
struct Type {
    id: u32,
    kind: String,
    name: String,
    #[serde(default)]
    size: usize,
    /// The type to which a pointer points, or of which an array consists.
    #[serde(default)]
    type_id: u32,
    #[serde(default)]
    nr_elems: usize,
    #[serde(default)]
    members: Vec<Member>,
    #[serde(default)]
    vars: Vec<Var>,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    type_id: u32,
    bits_offset: usize,
}

#[derive(Deserialize)]
struct Var {
    type_id: u32,
}

impl Btf {
    fn of_the_object() -> Self {
        let object = concat!(env!("OUT_DIR"), "/vipnat-ebpf");
        // Debian has it here, and not every user has this directory in PATH.
        let debian = Path::new("/usr/sbin/bpftool");
        let mut bpftool = Command::new(if debian.exists() { debian } else { Path::new("bpftool") });
        bpftool.args(["--json", "btf", "dump", "file", object]);
        let output = bpftool.output().expect("start bpftool (package bpftool: cargo xtask setup)");
        assert!(output.status.success(), "{bpftool:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("bpftool writes JSON")
    }

    fn get(&self, id: u32) -> &Type {
        self.types.iter().find(|one| one.id == id).unwrap_or_else(|| panic!("no type {id}"))
    }

    /// The definitions of the maps, by name.
    fn maps(&self) -> BTreeMap<&str, &Type> {
        let is_maps = |one: &&Type| one.kind == "DATASEC" && one.name == ".maps";
        let section = self.types.iter().find(is_maps).expect("the object has maps");
        let vars = section.vars.iter().map(|var| self.get(var.type_id));
        vars.map(|var| (var.name.as_str(), self.get(var.type_id))).collect()
    }

    fn size(&self, one: &Type) -> usize {
        if one.kind == "ARRAY" { one.nr_elems * self.size(self.get(one.type_id)) } else { one.size }
    }

    /// The type to which the member of this name in a map's definition points.
    fn pointed_to(&self, map: &Type, name: &str) -> &Type {
        let member = map.members.iter().find(|member| member.name == name);
        let pointer = self.get(member.unwrap_or_else(|| panic!("no {name}")).type_id);
        assert_eq!(pointer.kind, "PTR", "{name}");
        self.get(pointer.type_id)
    }

    /// Compares a type and the types inside it with Rust's layout.
    fn check(&self, one: &Type) {
        match one.kind.as_str() {
            "INT" | "ENUM" => {}
            "ARRAY" => self.check(self.get(one.type_id)),
            "STRUCT" => {
                let structs = structs();
                let known = structs.iter().find(|known| known.name == one.name);
                let Rust { name, size, fields } =
                    known.unwrap_or_else(|| panic!("struct {} is not in the list", one.name));
                assert_eq!(one.size, *size, "size of {name}");
                let field = |member: &Member| {
                    assert_eq!(member.bits_offset % 8, 0, "{name}.{}", member.name);
                    let size = self.size(self.get(member.type_id));
                    (member.name.clone(), member.bits_offset / 8, size)
                };
                let mut found: Vec<_> = one.members.iter().map(field).collect();
                found.sort_by_key(|(_, offset, _)| *offset);
                let mut expected: Vec<_> = fields
                    .iter()
                    .map(|&(name, offset, size)| (name.to_owned(), offset, size))
                    .collect();
                expected.sort_by_key(|(_, offset, _)| *offset);
                assert_eq!(found, expected, "fields of {name}: in BTF, in the list");
                one.members.iter().for_each(|member| self.check(self.get(member.type_id)));
            }
            kind => panic!("a {kind} can't be in a map"),
        }
    }

    /// The name of a type in [`MAPS`].
    fn name(&self, one: &Type) -> String {
        if one.kind == "STRUCT" { one.name.clone() } else { self.size(one).to_string() }
    }
}

#[test]
fn keys_and_values_of_all_maps_are_the_same_in_the_object_and_in_rust() {
    let btf = Btf::of_the_object();
    let maps = btf.maps();
    assert_eq!(maps.keys().copied().collect::<Vec<_>>(), MAP_NAMES);
    let mut described = Vec::new();
    for (map, definition) in &maps {
        let [key, value] = ["key", "value"].map(|name| btf.pointed_to(definition, name));
        btf.check(key);
        btf.check(value);
        described.push((*map, btf.name(key), btf.name(value)));
    }
    let expected = MAPS.map(|(map, key, value)| (map, key.to_owned(), value.to_owned()));
    assert_eq!(described, expected);
}
