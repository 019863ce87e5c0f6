//! What does a committed proposal cost, alone and in a burst, in groups of one, three and five?
//!
//! ```sh
//! cargo bench -p kiva-raft --bench proposals
//! ```

mod group;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use group::Group;

fn proposals(criterion: &mut Criterion) {
    let mut figures = criterion.benchmark_group("proposals of 256 bytes");
    let command = Bytes::from(vec![7; 256]);
    for voters in [1, 3, 5] {
        for burst in [1, 64] {
            let mut nodes = Group::new(voters);
            figures.throughput(Throughput::Elements(burst));
            let id = BenchmarkId::new(format!("{voters} voters"), format!("burst {burst}"));
            figures.bench_function(id, |bencher| bencher.iter(|| nodes.burst(burst, &command)));
            assert!(nodes.applied().0 > burst, "what is measured is applied");
        }
    }
    figures.finish();
}

criterion_group!(benches, proposals);
criterion_main!(benches);
