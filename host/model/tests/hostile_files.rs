//! Damaged and hostile GGUF and safetensors files: refused with the field and the place, never a panic, never a large
//! allocation.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use dlm_model::config::config_from_gguf;
use dlm_model::gguf::{self, GgufFile, GgufWeights};
use dlm_model::safetensors_dir::{self, SafetensorsDir};
use dlm_model::tokenizer::tokenizer_from_gguf;
use dlm_model::weights::{GgmlType, WeightSource};
use dlm_testkit::gguf::GgufBytes as Gguf;

/// Writes the file and opens it.
fn opened(gguf: &Gguf) -> (tempfile::TempDir, GgufFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, gguf.bytes()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    (dir, file)
}

#[track_caller]
fn refused(gguf: &Gguf, part: &str) {
    let error = gguf::parse_header(&gguf.bytes()).unwrap_err().to_string();
    assert!(error.contains(part), "`{error}` does not say `{part}`");
}

fn tensor_of_32() -> Gguf {
    Gguf::default().tensor("a", &[32], 0, 0).data(128)
}

#[test]
fn a_sound_file_is_read() {
    let gguf = tensor_of_32().tensor("b", &[32, 2], 8, 128).data(128 + 68);
    let header = gguf::parse_header(&gguf.bytes()).unwrap();
    let b = &header.tensors["b"];
    assert_eq!(
        (b.shape.as_slice(), b.dtype, b.bytes.len()),
        (&[2, 32][..], GgmlType::Q8_0, 68)
    );
    assert_eq!(b.bytes.start, header.data_start + 128);
}

#[test]
fn the_beginning_is_checked() {
    for (bytes, part) in [
        (&b""[..], "ends at byte 0 inside the magic"),
        (b"GGML\x03\0\0\0", "does not begin with `GGUF`"),
        (b"GGUF\x01\0\0\0", "version 1 is not supported"),
        (b"GGUF\0\0\0\x03", "big-endian"),
        (b"GGUF\x03\0\0\0\0\0", "inside the number of tensors"),
    ] {
        let error = gguf::parse_header(bytes).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn counts_are_limited_before_anything_is_allocated() {
    let mut bytes = Gguf::default().bytes();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(
        gguf::parse_header(&bytes)
            .unwrap_err()
            .to_string()
            .contains("number of tensors at byte 8 is 18446744073709551615")
    );
    bytes[8..16].copy_from_slice(&100_000u64.to_le_bytes());
    assert!(
        gguf::parse_header(&bytes)
            .unwrap_err()
            .to_string()
            .contains("needs 3200000 bytes")
    );
    bytes[8..24].copy_from_slice(&[0; 16]);
    bytes[16..24].copy_from_slice(&60_000u64.to_le_bytes());
    assert!(
        gguf::parse_header(&bytes)
            .unwrap_err()
            .to_string()
            .contains("number of metadata entries")
    );
    // An array that claims more elements than the file has bytes.
    let mut array = 0u32.to_le_bytes().to_vec();
    array.extend(1_000_000u64.to_le_bytes());
    refused(
        &Gguf::default().value("k", 9, &array),
        "inside the number of elements of `k`",
    );
    let mut array = 0u32.to_le_bytes().to_vec();
    array.extend((1u64 << 40).to_le_bytes());
    refused(&Gguf::default().value("k", 9, &array), "the limit is 8388608");
    refused(
        &Gguf::default().value("k", 8, &(1u64 << 50).to_le_bytes()),
        "the length of the value of `k`",
    );
}

#[test]
fn values_are_checked() {
    refused(&Gguf::default().value("k", 13, &[0; 8]), "value type of `k`");
    refused(&Gguf::default().value("k", 7, &[2, 0, 0, 0]), "truth value of `k`");
    let mut nested = 9u32.to_le_bytes().to_vec();
    nested.extend([0; 16]);
    refused(&Gguf::default().value("k", 9, &nested), "array of arrays");
    let mut invalid = 2u64.to_le_bytes().to_vec();
    invalid.extend([0xC3, 0x28]);
    refused(&Gguf::default().value("k", 8, &invalid), "not valid UTF-8");
    refused(&Gguf::default().u32("k", 1).u32("k", 2), "`k` at byte");
    for alignment in [0, 3, 4, 48, 1 << 21] {
        refused(
            &tensor_of_32().u32("general.alignment", alignment),
            "`general.alignment`",
        );
    }
    refused(&tensor_of_32().string("general.alignment", "32"), "`general.alignment`");
}

#[test]
fn tensors_are_checked() {
    refused(&Gguf::default().tensor("a", &[32], 0, 0), "takes bytes");
    refused(&tensor_of_32().tensor("a", &[32], 0, 128).data(256), "appears twice");
    refused(
        &tensor_of_32().tensor("b", &[32], 0, 64).data(256),
        "`a` and `b` overlap",
    );
    refused(
        &tensor_of_32().tensor("b", &[32], 0, 4).data(256),
        "not a multiple of 32",
    );
    refused(
        &tensor_of_32().tensor("b", &[32], 0, u64::MAX - 31).data(256),
        "takes bytes",
    );
    refused(&tensor_of_32().tensor("b", &[32], 16, 128).data(256), "type 16");
    refused(
        &tensor_of_32().tensor("b", &[33], 8, 128).data(256),
        "rows of 33 elements",
    );
    refused(
        &tensor_of_32().tensor("b", &[1 << 32, 1 << 32, 1 << 32], 0, 128),
        "larger than any memory",
    );
    refused(
        &tensor_of_32().tensor("b", &[u64::MAX], 0, 128),
        "larger than any memory",
    );
    refused(&tensor_of_32().tensor("b", &[0], 0, 128), "a dimension of 0");
    refused(&tensor_of_32().tensor("b", &[], 0, 128), "no dimensions");
    refused(
        &tensor_of_32().tensor("b", &[1, 1, 1, 1, 1], 0, 128),
        "the number of dimensions of `b`",
    );
    refused(
        &tensor_of_32().tensor(&"n".repeat(300), &[32], 0, 128),
        "the name of tensor 1",
    );
}

#[test]
fn every_truncation_is_refused() {
    let bytes = tensor_of_32()
        .string("general.architecture", "llama")
        .strings("t", &["a", "bc"])
        .bytes();
    assert!(gguf::parse_header(&bytes).is_ok());
    for len in 0..bytes.len() {
        assert!(gguf::parse_header(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn no_flipped_byte_panics() {
    let gguf = tensor_of_32()
        .string("general.architecture", "llama")
        .u32("llama.block_count", 2);
    let bytes = gguf.strings("tokenizer.ggml.tokens", &["a", "b", "ab"]).bytes();
    for index in 0..bytes.len() {
        for value in [0, 1, 0x7F, 0x80, 0xFF] {
            let mut damaged = bytes.clone();
            damaged[index] = value;
            if let Ok(header) = gguf::parse_header(&damaged) {
                for info in header.tensors.values() {
                    assert!(info.bytes.end <= damaged.len());
                }
            }
        }
    }
}

#[test]
fn tensors_without_a_place_in_the_family_are_refused() {
    let weights = |gguf: Gguf| {
        let (_dir, file) = opened(&gguf);
        GgufWeights::new(std::sync::Arc::new(file)).map(|weights| weights.names())
    };
    let llama = || Gguf::default().string("general.architecture", "llama");
    assert!(
        weights(tensor_of_32())
            .unwrap_err()
            .to_string()
            .contains("names no architecture")
    );
    let mamba = tensor_of_32().string("general.architecture", "mamba");
    assert!(
        weights(mamba)
            .unwrap_err()
            .to_string()
            .contains("`mamba` is not supported")
    );
    let stray = llama().tensor("blk.0.ssm_a.weight", &[32], 0, 0).data(128);
    assert!(
        weights(stray)
            .unwrap_err()
            .to_string()
            .contains("`blk.0.ssm_a.weight` does not belong")
    );
    let flat = llama()
        .tensor("blk.0.ffn_up_exps.weight", &[1 << 20], 0, 0)
        .data(1 << 22);
    assert!(weights(flat).unwrap_err().to_string().contains("stacks experts"));
    // No head count: the rows of q cannot be put back, and the tensor says so.
    let (_dir, file) = opened(&llama().tensor("blk.0.attn_q.weight", &[32, 4], 0, 0).data(512));
    let weights = GgufWeights::new(std::sync::Arc::new(file)).unwrap();
    let error = weights
        .tensor("model.layers.0.self_attn.q_proj.weight")
        .unwrap_err()
        .to_string();
    assert!(error.contains("4 rows do not divide into 0 heads"), "{error}");
}

#[test]
fn gguf_settings_are_checked() {
    let refusal = |gguf: &Gguf| config_from_gguf(&opened(gguf).1).unwrap_err().to_string();
    assert!(refusal(&tensor_of_32()).contains("`general.architecture` is missing"));
    let llama = Gguf::default().string("general.architecture", "llama");
    assert!(refusal(&llama).contains("`llama.embedding_length` is missing"));
    let wrong = llama.clone().string("llama.embedding_length", "576");
    assert!(refusal(&wrong).contains("`llama.embedding_length` is String(\"576\")"));
    let sizes = llama
        .u32("llama.embedding_length", 32)
        .u32("llama.block_count", u32::MAX)
        .u32("llama.attention.head_count", 4)
        .u32("llama.context_length", 64)
        .u32("llama.feed_forward_length", 64)
        .value("llama.attention.layer_norm_rms_epsilon", 6, &1e-5f32.to_le_bytes());
    assert!(refusal(&sizes).contains("tensor `token_embd.weight` is missing"));
    let narrow = sizes.clone().tensor("token_embd.weight", &[64, 8], 0, 0).data(2048);
    assert!(refusal(&narrow).contains("has the shape [8, 64], expected [vocabulary, 32]"));
    let deep = sizes.tensor("token_embd.weight", &[32, 8], 0, 0).data(1024);
    assert!(refusal(&deep).contains("`n_layers` is 4294967295"));
}

#[test]
fn gguf_tokenizers_are_checked() {
    let refusal = |gguf: &Gguf| tokenizer_from_gguf(&opened(gguf).1).unwrap_err().to_string();
    let kinds = |count: usize| {
        let mut bytes = 5u32.to_le_bytes().to_vec();
        bytes.extend((count as u64).to_le_bytes());
        (0..count).for_each(|_| bytes.extend(1i32.to_le_bytes()));
        bytes
    };
    let none = Gguf::default();
    assert!(refusal(&none).contains("`tokenizer.ggml.model` is missing"));
    let unknown = none.clone().string("tokenizer.ggml.model", "rwkv");
    assert!(refusal(&unknown).contains("`tokenizer.ggml.model` is rwkv, expected "));
    for known in ["gpt2", "llama", "t5"] {
        assert!(refusal(&unknown).contains(known), "{}", refusal(&unknown));
    }
    let empty = none.clone().string("tokenizer.ggml.model", "llama");
    assert!(refusal(&empty).contains("`tokenizer.ggml.tokens` is missing"));
    let model = none.string("tokenizer.ggml.model", "gpt2");
    assert!(
        refusal(&model.clone().string("tokenizer.ggml.pre", "mystery")).contains("is mystery, expected one of smollm")
    );
    let pre = model.string("tokenizer.ggml.pre", "gpt-2");
    let twice = pre.clone().strings("tokenizer.ggml.tokens", &["a", "b", "a"]);
    assert!(refusal(&twice).contains("tokens 0 and 2 are both `a`"));
    let tokens = pre.strings("tokenizer.ggml.tokens", &["a", "b", "ab"]);
    for merge in ["a", "a c", "b a", "a b c"] {
        let merges = tokens.clone().strings("tokenizer.ggml.merges", &[merge]);
        assert!(refusal(&merges).contains(&format!("merge 0 `{merge}`")), "{merge}");
    }
    let merges = tokens.strings("tokenizer.ggml.merges", &["a b"]);
    assert!(refusal(&merges).contains("`tokenizer.ggml.token_type` is missing"));
    assert!(refusal(&merges.clone().value("tokenizer.ggml.token_type", 9, &kinds(2))).contains("one per token"));
    let whole = merges.value("tokenizer.ggml.token_type", 9, &kinds(3));
    // NVIDIA/Megatron-LM and ggml-org/llama.cpp#3634: an id that is no token's is passed over, and noted.
    let beyond = [
        ("tokenizer.ggml.eos_token_id", 3),
        ("tokenizer.ggml.bos_token_id", u32::MAX),
    ];
    for (key, id) in beyond {
        let (_dir, file) = opened(&whole.clone().u32(key, id));
        let tokenizer = tokenizer_from_gguf(&file).unwrap();
        assert_eq!(tokenizer.encode("abb").unwrap(), [2, 1]);
        assert_eq!((tokenizer.specials.eos, tokenizer.specials.bos), (None, None));
        assert_eq!(
            tokenizer.notes,
            [format!(
                "`{key}` is {id}, the vocabulary has 3 tokens: it is passed over"
            )]
        );
    }
    assert!(refusal(&whole.clone().string("tokenizer.ggml.eos_token_id", "x")).contains("a whole number"));
    let (_dir, file) = opened(&whole.u32("tokenizer.ggml.eos_token_id", 1));
    assert_eq!(tokenizer_from_gguf(&file).unwrap().encode("abb").unwrap(), [2, 1]);
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[track_caller]
fn refused_tensors(header: &str, data: usize, part: &str) {
    let error = safetensors_dir::parse_header(&safetensors(header, data))
        .unwrap_err()
        .to_string();
    assert!(error.contains(part), "`{error}` does not say `{part}`");
}

const SOUND: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}"#;

#[test]
fn a_sound_safetensors_header_is_read() {
    let entries = safetensors_dir::parse_header(&safetensors(SOUND, 12)).unwrap();
    assert_eq!(entries["a"].shape, [1, 2]);
    assert_eq!(entries["b"].bytes, 8 + SOUND.len() + 4..8 + SOUND.len() + 12);
    let bytes = safetensors(SOUND, 12);
    for len in 0..bytes.len() {
        assert!(safetensors_dir::parse_header(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn safetensors_headers_are_checked() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    refused_tensors(&one("F32", "[2]", "[0,4]"), 4, "needs 8 bytes, its offsets hold 4");
    refused_tensors(&one("F32", "[2]", "[8,0]"), 8, "ends before it begins");
    refused_tensors(&one("F32", "[2]", "[0,8]"), 4, "the file holds 4");
    refused_tensors(&one("F32", "[2]", "[4,12]"), 12, "overlap or leave a gap");
    refused_tensors(&one("F32", "[2]", "[0,8]"), 12, "4 bytes after the last tensor");
    refused_tensors(&one("F99", "[2]", "[0,8]"), 8, "type `F99`");
    refused_tensors(
        &one("F32", "[4294967296,4294967296,4294967296]", "[0,8]"),
        8,
        "larger than any memory",
    );
    refused_tensors(
        &one("F32", "[18446744073709551615]", "[0,8]"),
        8,
        "larger than any memory",
    );
    refused_tensors(&one("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "9 dimensions");
    refused_tensors(&one("F32", "[-1]", "[0,8]"), 8, "not valid");
    refused_tensors("{", 0, "not valid");
    refused_tensors("[]", 0, "not valid");
    refused_tensors(r#"{"t":1}"#, 0, "not valid");
    let overlap =
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    refused_tensors(overlap, 6, "`b` begins at data byte 2, expected 4");
    let twice =
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    refused_tensors(twice, 2, "`a` appears twice");
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend([0; 16]);
    assert!(
        safetensors_dir::parse_header(&huge)
            .unwrap_err()
            .to_string()
            .contains("the limit is 100000000")
    );
}

#[test]
fn indexes_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(dir.path().join(name), content).unwrap();
    let open = || SafetensorsDir::open(dir.path());
    assert!(open().unwrap_err().to_string().contains("has neither"));
    write("pytorch_model.bin", b"");
    assert!(open().unwrap_err().to_string().contains("pickled"));
    write("one.safetensors", &safetensors(SOUND, 12));
    let index = |file: &str, tensor: &str| format!(r#"{{"metadata":{{}},"weight_map":{{"{tensor}":"{file}"}}}}"#);
    for file in ["../one.safetensors", "/etc/passwd", "one.bin", "x/one.safetensors"] {
        write("model.safetensors.index.json", index(file, "a").as_bytes());
        assert!(open().unwrap_err().to_string().contains("not a plain"), "{file}");
    }
    write(
        "model.safetensors.index.json",
        index("one.safetensors", "zz").as_bytes(),
    );
    assert!(open().unwrap_err().to_string().contains("tensor `zz` is not in it"));
    write("model.safetensors.index.json", index("one.safetensors", "a").as_bytes());
    let weights = open().unwrap();
    assert_eq!(weights.names(), ["a"]);
    assert_eq!(weights.tensor("a").unwrap().dtype, GgmlType::BF16);
}
