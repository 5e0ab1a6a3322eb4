//! Everything that is read of a GGUF file before a model is made of it.

use bytes::Bytes;
use qembed_models::gguf::{ArrayRef, Gguf, GgufBuilder, Value};
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{Config, not_understood, plan};
use qembed_q::Level;

/// Values of a tensor that are decoded.
const VALUES: usize = 1 << 12;

/// Opens a file and reads every value and tensor of it.
pub fn walk(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let gguf = match Gguf::from_bytes(bytes.clone()) {
        Ok(gguf) => gguf,
        Err(error) => return drop(error.to_string()),
    };
    for (key, value) in gguf.metadata() {
        assert_eq!(gguf.get(key).map(|found| found.value_type()), Some(value.value_type()));
        let _ = (gguf.u32(key), gguf.u64(key), gguf.i64(key), gguf.f32(key), gguf.bool(key), gguf.str(key));
        if let Value::Array(array) = value {
            walk_array(array);
        }
    }
    for info in gguf.tensors() {
        let Ok(tensor) = gguf.require_tensor(&info.name) else { continue };
        let data = &tensor.data;
        assert_eq!(Some(data.len()), tensor.format.row_bytes(tensor.shape.values()));
        assert!(bytes.as_ptr_range().start <= data.as_ptr() && data.as_ptr_range().end <= bytes.as_ptr_range().end);
        if tensor.shape.values() <= VALUES {
            tensor.format.dequantize(data, &mut vec![0.0; tensor.shape.values()]);
        }
    }
    if let Err(error) = Config::read(&gguf) {
        drop(error.to_string());
    }
    not_understood(&gguf).iter().for_each(|item| drop(item.to_string()));
    if let Err(error) = Tokenizer::from_gguf(&gguf) {
        drop(error.to_string());
    }
    let level: Level = "Q4_K_M".parse().expect("a level");
    let _ = plan(&gguf, level);
    GgufBuilder::new().copy_metadata(&gguf);
}

fn walk_array(array: ArrayRef<'_>) {
    // Of nested arrays the first ones only, so that time stays in proportion to the file.
    for value in array.iter().take(64) {
        if let Ok(Value::Array(inner)) = value {
            walk_array(inner);
        }
    }
    let _ = array.iter_str().map(|all| all.filter(Result::is_ok).count());
    let _ = array.iter_str_bytes().map(Iterator::count);
    let _ = array.iter_int().map(|all| all.fold(0, i128::wrapping_add));
    let _ = array.iter_bool().map(Iterator::count);
    let _ = (
        array.iter_u8().map(Iterator::last),
        array.iter_u64().map(Iterator::last),
        array.iter_i32().map(Iterator::last),
    );
    let _ = (array.iter_f32().map(Iterator::last), array.iter_f64().map(Iterator::last));
}
