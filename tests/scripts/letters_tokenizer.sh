# shellcheck shell=bash
# A tokenizer of small letters, spaces and a few merged ones, for tests of programs that need one.

# letters_tokenizer: its tokenizer.json
letters_tokenizer() {
  local vocab number letter
  vocab='"<unk>": 0, "<s>": 1, "</s>": 2, "Ġ": 3, "th": 4, "the": 5'
  number=6
  for letter in {a..z}; do
    vocab+=", \"$letter\": $number"
    number=$((number + 1))
  done
  special() { echo "{\"id\": $1, \"content\": \"$2\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}"; }
  cat <<END
{"version": "1.0", "truncation": null, "padding": null,
 "added_tokens": [$(special 0 "<unk>"), $(special 1 "<s>"), $(special 2 "</s>")],
 "normalizer": null,
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
 "post_processor": null,
 "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
           "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
           "vocab": {$vocab}, "merges": ["t h", "th e"]}}
END
}
