//! The compiled protocol against the table of what clients rely on.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// Name of a thing to the parts it has, both with what identifies them on the wire.
type Table = BTreeMap<String, BTreeMap<String, i32>>;

/// What was compiled, in the words of `fields.txt`.
#[derive(Default)]
struct Compiled {
    messages: Table,
    enums: Table,
    /// Path to request and response.
    methods: BTreeMap<String, String>,
}

impl Compiled {
    fn read() -> Self {
        let files = FileDescriptorSet::decode(kiva_proto::FILE_DESCRIPTOR_SET)
            .expect("the build wrote a descriptor set");
        let mut compiled = Self::default();
        for file in &files.file {
            let package = file.package();
            file.message_type.iter().for_each(|message| compiled.add_message(package, message));
            file.enum_type.iter().for_each(|variants| compiled.add_enum(package, variants));
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    let side = |streams: bool, name: &str| {
                        let name = name.trim_start_matches('.');
                        if streams { format!("stream {name}") } else { name.to_owned() }
                    };
                    let signature = format!(
                        "{} {}",
                        side(method.client_streaming(), method.input_type()),
                        side(method.server_streaming(), method.output_type()),
                    );
                    compiled.methods.insert(path, signature);
                }
            }
        }
        compiled
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add_message(&name, nested));
        message.enum_type.iter().for_each(|variants| self.add_enum(&name, variants));
        let fields = message.field.iter().map(|field| (plain(field.name()), field.number()));
        self.messages.insert(name, fields.collect());
    }

    fn add_enum(&mut self, scope: &str, variants: &EnumDescriptorProto) {
        let name = format!("{scope}.{}", variants.name());
        let numbers = variants.value.iter().map(|value| (plain(value.name()), value.number()));
        self.enums.insert(name, numbers.collect());
    }
}

/// A name without what differs between languages.
fn plain(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}

/// Statements of `fields.txt`: comments dropped, continuations joined.
fn statements() -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    for line in include_str!("fields.txt").lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        match statements.last_mut() {
            Some(last) if line.starts_with(' ') => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => statements.push(line.to_owned()),
        }
    }
    statements
}

/// Complaints about the parts of one message or enum.
fn compare(name: &str, parts: &str, table: &Table) -> Vec<String> {
    let Some(compiled) = table.get(name) else {
        return vec![format!("{name} does not exist")];
    };
    let check = |part: &str| {
        let (part, number) = part.split_once(' ').expect("a name and a number");
        let expected: i32 = number.parse().expect("a number");
        let found = compiled.get(&plain(part));
        (found != Some(&expected)).then(|| format!("{name} {part} is {found:?}, not {expected}"))
    };
    parts.split(", ").filter_map(check).collect()
}

#[test]
fn every_number_clients_rely_on_is_in_place() {
    let compiled = Compiled::read();
    let mut complaints = Vec::new();
    let mut checked = 0;
    for statement in statements() {
        checked += 1;
        if statement.starts_with('/') {
            let (path, signature) = statement.split_once(' ').expect("a path and its types");
            match compiled.methods.get(path) {
                Some(found) if found == signature => {}
                found => complaints.push(format!("{path} is {found:?}, not {signature}")),
            }
            continue;
        }
        let (name, parts) = statement.split_once(": ").expect("a name, a colon, its parts");
        complaints.extend(match name.strip_prefix("enum ") {
            Some(name) => compare(name, parts, &compiled.enums),
            None => compare(name, parts, &compiled.messages),
        });
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(checked > 150, "fields.txt was cut short: {checked} statements");
}

#[test]
fn every_command_in_a_batch_has_the_types_of_its_method() {
    // One oneof for requests, one for responses: a slip in one of them would answer a command
    // with another's response.
    let compiled = Compiled::read();
    let files = FileDescriptorSet::decode(kiva_proto::FILE_DESCRIPTOR_SET)
        .expect("the build wrote a descriptor set");
    let types = |message: &str| -> BTreeMap<String, String> {
        let outer = files
            .file
            .iter()
            .flat_map(|file| &file.message_type)
            .find(|outer| outer.name() == message)
            .expect("the message exists");
        let inner = outer.nested_type.first().expect("one nested message");
        let name = |name: &str| name.trim_start_matches('.').to_owned();
        inner.field.iter().map(|f| (name(f.name()), name(f.type_name()))).collect()
    };
    let requests = types("BatchCommandsRequest");
    let responses = types("BatchCommandsResponse");
    let signatures: Vec<&String> = compiled.methods.values().collect();
    for (command, request) in &requests {
        let response = responses.get(command).expect("every request has its response");
        let pair = format!("{request} {response}");
        assert!(
            command == "Empty" || signatures.contains(&&pair),
            "{command}: no method takes {request} and gives {response}"
        );
    }
    assert_eq!(requests.len(), responses.len());
}

#[test]
fn region_responses_and_scheduler_responses_start_alike() {
    // Clients look for the region error, or the header, at field 1 of whatever comes back.
    let compiled = Compiled::read();
    for (path, signature) in &compiled.methods {
        let response = signature.rsplit(' ').next().expect("a response");
        let fields = &compiled.messages[response];
        if path.starts_with("/pdpb.PD/") || path.starts_with("/keyspacepb.Keyspace/") {
            let config = path.ends_with("GlobalConfig");
            assert!(config || fields.get("header") == Some(&1), "{path}: no header in {response}");
        }
        if let Some(number) = fields.get("regionerror") {
            let pushed_down = response == "coprocessor.Response";
            assert_eq!(*number, if pushed_down { 2 } else { 1 }, "{path}");
        }
    }
}
