//! Any bytes are a frame of the replay corpus or an error; so is what is packed into one.
//!
//! What is checked: nothing panics or unpacks without bound, and what is read is packed and read back alike.

use dlm_store::replay::Snapshot;

/// Level of packing; any is read.
const LEVEL: i32 = 1;

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    read(bytes);
    // A fuzzer does not find its way through the compression, so that its bytes are also taken for what was compressed.
    read(&zstd::bulk::compress(bytes, LEVEL).expect("memory can be compressed"));
}

fn read(frame: &[u8]) {
    let Ok(snapshot) = Snapshot::from_frame(frame) else {
        return;
    };
    let packed = snapshot.frame().expect("a snapshot can be packed");
    assert_eq!(Snapshot::from_frame(&packed).expect("packed by us"), snapshot);
}
