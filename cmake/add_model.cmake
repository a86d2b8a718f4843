# A model's type from the config.json of a checkpoint: a configuration is a template argument, so a
# program is compiled for it.
#
#   mtp_add_model(TARGET NAME NAME CHECKPOINT FOLDER [MAX_POSITIONS COUNT])
#
# writes <mtp_models/NAME.hpp>, which TARGET may include. In the namespace mtp_models it declares
#
#   NAME          constexpr mtp::model_config
#   NAME_family   mtp::io::family_names: under which names its tensors stand
#   NAME_sha256   checksum of config.json, as text
#
# FOLDER holds config.json, which may also be named itself. MAX_POSITIONS is put in place of
# max_position_embeddings, if it is less: memory of caches grows with it. A field whose meaning the
# library lacks is an error that names it. mtp::io::check_config compares header and file at run time,
# and is stricter.
function(mtp_add_model target)
  cmake_parse_arguments(PARSE_ARGV 1 model "" "NAME;CHECKPOINT;MAX_POSITIONS" "")
  if(NOT TARGET "${target}" OR NOT model_NAME MATCHES "^[A-Za-z][A-Za-z_0-9]*$" OR NOT model_CHECKPOINT
      OR model_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "mtp_add_model: expected TARGET NAME NAME CHECKPOINT FOLDER [MAX_POSITIONS COUNT], "
                        "with an existing target and an identifier as name")
  endif()
  cmake_path(ABSOLUTE_PATH model_CHECKPOINT BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE
             OUTPUT_VARIABLE file)
  if(IS_DIRECTORY "${file}")
    set(file "${file}/config.json")
  endif()
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "mtp_add_model: ${file} does not exist")
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
  file(READ "${file}" json)
  file(SHA256 "${file}" checksum)
  string(JSON type ERROR_VARIABLE problem TYPE "${json}")
  if(NOT type STREQUAL "OBJECT")
    message(FATAL_ERROR "mtp_add_model: ${file}: expected an object: ${problem}")
  endif()

  # ---- fields ------------------------------------------------------------------------------------
  # get(VARIABLE DEFAULT KEY...): null counts as missing.
  macro(get variable default)
    string(JSON kind ERROR_VARIABLE problem TYPE "${json}" ${ARGN})
    if(problem OR kind STREQUAL "NULL")
      set(${variable} "${default}")
    else()
      string(JSON ${variable} GET "${json}" ${ARGN})
    endif()
  endmacro()
  macro(refuse field value why)
    message(FATAL_ERROR "mtp_add_model: ${file}: ${field} = ${value} is not supported: ${why}")
  endmacro()
  macro(get_count variable default)  # a number from 1 on
    get(${variable} "${default}" ${ARGN})
    if(NOT ${variable} MATCHES "^[0-9]+$" OR ${variable} LESS 1 OR ${variable} GREATER 2147483647)
      message(FATAL_ERROR "mtp_add_model: ${file}: ${ARGN}: expected a whole number from 1 to 2147483647, "
                          "got ${${variable}}")
    endif()
  endmacro()
  macro(get_float variable default)  # as a literal of C++
    get(${variable} "${default}" ${ARGN})
    if(NOT ${variable} MATCHES "^[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]+)?$")
      message(FATAL_ERROR "mtp_add_model: ${file}: ${ARGN}: expected a number from 0 on, got ${${variable}}")
    endif()
    if(NOT ${variable} MATCHES "[.eE]")
      string(APPEND ${variable} ".0")
    endif()
    string(APPEND ${variable} "f")
  endmacro()
  macro(must_be field wanted why)  # where it is there
    get(value "${wanted}" ${field})
    if(NOT value STREQUAL "${wanted}")
      refuse(${field} "${value}" "${why}")
    endif()
  endmacro()
  macro(must_be_missing)
    foreach(field IN ITEMS ${ARGN})
      get(value "" ${field})
      if(NOT value STREQUAL "")
        refuse(${field} "${value}" "trunks of this model_type that are known do not have it")
      endif()
    endforeach()
  endmacro()

  get(model_type "" model_type)
  get(tied OFF tie_word_embeddings)
  if(model_type STREQUAL "glm_ocr")  # the part that reads pictures is not used
    string(JSON json ERROR_VARIABLE problem GET "${json}" text_config)
    get(model_type "" model_type)
    get(tied ${tied} tie_word_embeddings)
  endif()
  if(model_type MATCHES "^mimo_v2")
    refuse(model_type "\"${model_type}\"" "released models of it have blocks with windows, sinks and other heads, \
which the library lacks; io::read_config lists what a config.json needs of these")
  endif()
  if(NOT model_type MATCHES "^(llama|mistral|qwen2|qwen3|mimo|glm4|glm_ocr_text|deepseek_v3|glm4_moe|glm4_moe_lite|qwen3_moe|mixtral)$")
    refuse(model_type "\"${model_type}\"" "the known ones are llama, mistral, qwen2, qwen3, mimo, glm4, glm_ocr, \
deepseek_v3, glm4_moe, glm4_moe_lite, qwen3_moe and mixtral")
  endif()
  set(latent OFF)
  if(model_type MATCHES "^(deepseek_v3|glm4_moe_lite)$")
    set(latent ON)
  endif()
  set(experts "")  # whose fields say which experts there are
  if(model_type MATCHES "^(deepseek_v3|glm4_moe|glm4_moe_lite)$")
    set(experts deepseek)
  elseif(model_type MATCHES "^(qwen3_moe|mixtral)$")
    set(experts ${model_type})
  endif()
  get_count(vocab_size "" vocab_size)
  get_count(hidden_size "" hidden_size)
  get_count(intermediate_size "" intermediate_size)
  get_count(layers "" num_hidden_layers)
  get_count(heads "" num_attention_heads)
  get_count(positions "" max_position_embeddings)
  set(default_heads "")
  if(model_type STREQUAL "llama" OR latent)
    set(default_heads ${heads})
  endif()
  get_count(key_value_heads "${default_heads}" num_key_value_heads)
  set(default_width "")
  if(NOT model_type MATCHES "^(qwen3|glm4)$")
    math(EXPR default_width "${hidden_size} / ${heads}")
  endif()
  if(NOT latent)
    get_count(head_dim "${default_width}" head_dim)
  endif()
  get_float(epsilon 1e-06 rms_norm_eps)

  must_be(hidden_act silu "only silu is")
  must_be(mlp_bias OFF "feed-forward layers have no bias")
  if(NOT model_type MATCHES "^(qwen2|mimo|glm4|glm4_moe)$")
    must_be(attention_bias OFF "the output projection has no bias")
  endif()
  must_be_missing(dual_chunk_attention_config attn_logit_softcapping final_logit_softcapping attention_chunk_size
      no_rope_layers index_topk)
  if(NOT latent)
    must_be_missing(q_lora_rank kv_lora_rank)
  endif()
  if(NOT experts)
    must_be_missing(num_experts num_local_experts n_routed_experts)
  endif()

  get(quantized fp8 quantization_config quant_method)
  if(NOT quantized STREQUAL "fp8")
    refuse("quantization_config: quant_method" ${quantized} "only fp8 with scales of blocks is")
  endif()

  # A window that is shorter than the sequences, in one of the blocks.
  get(window "" sliding_window)
  get(window_is_used OFF use_sliding_window)
  if(model_type MATCHES "^(llama|mistral|mixtral)$")
    set(window_is_used ON)
  endif()
  if(window_is_used AND NOT window STREQUAL "" AND window LESS positions)
    get(layer_types "" layer_types)
    get(first_windowed 0 max_window_layers)
    if(layer_types MATCHES "_attention")
      string(REGEX MATCH "(sliding|chunked)_attention" windowed "${layer_types}")
    elseif(model_type MATCHES "^(llama|mistral|mixtral)$" OR first_windowed LESS layers)
      set(windowed yes)
    endif()
    if(windowed)
      refuse(sliding_window ${window} "attention reaches all earlier tokens")
    endif()
  endif()

  # ---- rotation ----------------------------------------------------------------------------------
  set(rope rope_scaling)
  get(rope_parameters "" rope_parameters)
  if(NOT rope_parameters STREQUAL "")
    set(rope rope_parameters)
  endif()
  set(default_theta 10000)
  if(model_type STREQUAL "mixtral")
    set(default_theta 1000000)
  endif()
  get(rope_theta ${default_theta} rope_theta)
  get_float(rope_theta ${rope_theta} ${rope} rope_theta)
  get(rope_type default ${rope} type)
  get(rope_type ${rope_type} ${rope} rope_type)
  set(partial 1)
  if(model_type MATCHES "^(glm4|glm4_moe)$")
    set(partial 0.5)
  endif()
  get(partial ${partial} partial_rotary_factor)
  get(partial ${partial} ${rope} partial_rotary_factor)
  if(NOT partial EQUAL 1 AND NOT model_type MATCHES "^(glm4|glm4_moe|glm_ocr_text)$")
    refuse(partial_rotary_factor ${partial} "the family rotates whole heads")
  endif()
  get_float(partial ${partial} ${rope} partial_rotary_factor)
  set(scaling "")
  if(NOT rope_type STREQUAL "default")
    if(NOT rope_type MATCHES "^(linear|llama3|yarn)$")
      refuse("${rope}: rope_type" "\"${rope_type}\"" "only default, linear, llama3 and yarn are")
    endif()
    get_float(factor "" ${rope} factor)
    set(scaling ".kind = mtp::rope_scaling_kind::${rope_type}, .factor = ${factor}")
    if(NOT rope_type STREQUAL "linear")
      get_count(length "${positions}" ${rope} original_max_position_embeddings)
      string(APPEND scaling ", .original_max_position_embeddings = ${length}")
    endif()
    if(rope_type STREQUAL "llama3")
      get_float(low "" ${rope} low_freq_factor)
      get_float(high "" ${rope} high_freq_factor)
      string(APPEND scaling ", .low_freq_factor = ${low}, .high_freq_factor = ${high}")
    elseif(rope_type STREQUAL "yarn")
      get_float(fast 32 ${rope} beta_fast)
      get_float(slow 1 ${rope} beta_slow)
      get_float(attention 0 ${rope} attention_factor)
      get(mscale "" ${rope} mscale)
      get(mscale_all "" ${rope} mscale_all_dim)
      if(attention STREQUAL "0.0f" AND mscale AND mscale_all)
        if(NOT mscale EQUAL mscale_all)
          refuse("${rope}: mscale" ${mscale} "CMake has no logarithm; write attention_factor instead")
        endif()
        set(attention "1.0f")
      endif()
      string(APPEND scaling
          ", .beta_fast = ${fast}, .beta_slow = ${slow}, .attention_factor = ${attention}")
      if(latent)
        get_float(mscale_all 0 ${rope} mscale_all_dim)
        string(APPEND scaling ", .mscale_all_dim = ${mscale_all}")
      endif()
    endif()
  endif()

  # ---- head --------------------------------------------------------------------------------------
  get(modules 0 num_nextn_predict_layers)
  get(medusa 0 medusa_num_heads)
  get(future 0 n_future_tokens)
  set(family llama_names)
  if(model_type MATCHES "^glm" OR experts)
    string(REPLACE "_text" "" family "${model_type}_names")
    if(latent)
      set(family deepseek_v3_names)
    elseif(model_type STREQUAL "qwen3_moe")
      set(family glm4_moe_names)
    endif()
    must_be(medusa_num_heads 0 "the family has none")
    must_be(n_future_tokens 0 "the family has none")
  endif()
  set(prediction "")
  if(modules GREATER 0)
    set(prediction ".kind = mtp::head_kind::sequential, .depth = ${modules}, ")
    if(model_type STREQUAL "mimo")
      set(family mimo_names)
      string(APPEND prediction ".hidden_tap = mtp::norm_tap::pre_norm, .recycle_tap = mtp::norm_tap::pre_norm")
    else()
      if(family STREQUAL "llama_names")
        set(family deepseek_names)
      endif()
      string(APPEND prediction ".concat = mtp::concat_order::embedding_first")
    endif()
  elseif(medusa GREATER 0)
    must_be(medusa_num_layers 1 "heads have one residual layer")
    set(family medusa_names)
    set(prediction ".kind = mtp::head_kind::independent, .depth = ${medusa}")
  elseif(future GREATER 1)
    math(EXPR depth "${future} - 1")
    set(family meta_names)
    set(prediction
        ".kind = mtp::head_kind::parallel, .depth = ${depth}, .output_norm = mtp::output_norm_kind::shared")
  endif()

  # ---- layers ------------------------------------------------------------------------------------
  set(qkv_bias false)
  if(model_type MATCHES "^(qwen2|mimo)$")
    set(qkv_bias true)
  elseif(model_type MATCHES "^(glm4|glm4_moe)$")
    get(biased "" attention_bias)
    if(biased STREQUAL "")
      message(FATAL_ERROR "mtp_add_model: ${file}: attention_bias is missing")
    elseif(biased)
      set(qkv_bias true)
    endif()
  endif()
  set(post_norm false)
  if(model_type MATCHES "^(glm4|glm_ocr_text)$")
    set(post_norm true)
  endif()
  set(qk_norm false)
  get(normed OFF use_qk_norm)
  if(model_type MATCHES "^(qwen3|qwen3_moe)$" OR (model_type STREQUAL "glm4_moe" AND normed))
    set(qk_norm true)
  endif()
  set(tie false)
  if(tied)
    set(tie true)
  endif()
  set(attention ".num_attention_heads = ${heads}, .num_key_value_heads = ${key_value_heads}")
  set(latent_sizes "")
  if(latent)
    get(query_rank 0 q_lora_rank)
    get_count(latent_rank "" kv_lora_rank)
    get_count(plain "" qk_nope_head_dim)
    get_count(rotated "" qk_rope_head_dim)
    get_count(value_width "" v_head_dim)
    must_be(num_key_value_heads ${heads} "latent attention has as many as num_attention_heads")
    must_be(rope_interleave ON "pairs of rotated elements stand side by side")
    set(attention ".kind = mtp::attention_kind::multi_head_latent, ${attention}")
    set(latent_sizes ", .q_lora_rank = ${query_rank}, \
.kv_lora_rank = ${latent_rank}, .qk_nope_head_dim = ${plain}, .qk_rope_head_dim = ${rotated}, \
.v_head_dim = ${value_width}, .lora_norm_eps = 1e-06f")
  else()
    string(APPEND attention ", .head_dim = ${head_dim}")
  endif()

  set(feed_forward ".intermediate_size = ${intermediate_size}")
  if(experts)
    get_count(per_token "" num_experts_per_tok)
    set(field n_routed_experts)
    if(NOT experts STREQUAL "deepseek")
      get(value "" num_experts)
      set(field num_local_experts)
      if(NOT value STREQUAL "")
        set(field num_experts)
      endif()
    endif()
    get_count(expert_count "" ${field})
    if(experts STREQUAL "mixtral")
      set(expert_width ${intermediate_size})
    else()
      get_count(expert_width "" moe_intermediate_size)
    endif()
    set(feed_forward ".kind = mtp::feed_forward_kind::mixture_of_experts, ${feed_forward}")
    set(routing ".n_routed_experts = ${expert_count}, .num_experts_per_tok = ${per_token}, \
.moe_intermediate_size = ${expert_width}")
    if(experts STREQUAL "deepseek")
      get(dense 0 first_k_dense_replace)
      get(layer_types "" mlp_layer_types)
      if(NOT layer_types STREQUAL "")
        string(REGEX REPLACE "[^a-z,]" "" layer_types "${layer_types}")
        string(REGEX MATCH "^(dense,?)*" leading "${layer_types}")
        string(REGEX MATCHALL "dense" dense "${leading}")
        list(LENGTH dense dense)
        if(NOT layer_types MATCHES "^(dense,?)*(sparse,?)*$")
          refuse(mlp_layer_types "${layer_types}" "expected dense for the first blocks, then sparse")
        endif()
      endif()
      get(shared 0 n_shared_experts)
      get_count(groups 1 n_group)
      get_count(kept_groups 1 topk_group)
      get(normed ON norm_topk_prob)
      get_float(factor 1 routed_scaling_factor)
      must_be(scoring_func sigmoid "only sigmoid is, as in DeepSeek-V3")
      must_be(topk_method noaux_tc "only noaux_tc is, as in DeepSeek-V3")
      must_be(moe_layer_freq 1 "every block behind the dense ones has experts")
      string(APPEND feed_forward ", .first_k_dense_replace = ${dense}")
      string(APPEND routing ", .n_shared_experts = ${shared}, .n_group = ${groups}, .topk_group = ${kept_groups}")
      set(scoring ", .routed_scaling_factor = ${factor}, .scoring_func = mtp::scoring_function::sigmoid, \
.e_score_correction_bias = true")
    else()
      set(normed ON)
      if(experts STREQUAL "qwen3_moe")
        get(normed OFF norm_topk_prob)
        must_be(decoder_sparse_step 1 "every block has experts")
        must_be(mlp_only_layers "[]" "every block has experts")
      endif()
      set(scoring ", .scoring_func = mtp::scoring_function::softmax, .e_score_correction_bias = false")
    endif()
    if(normed)
      string(APPEND routing ", .norm_topk_prob = true")
    else()
      string(APPEND routing ", .norm_topk_prob = false")
    endif()
    string(APPEND feed_forward ", ${routing}${scoring}")
  else()
    string(APPEND feed_forward ", .post_norm = ${post_norm}")
  endif()

  # ---- the header --------------------------------------------------------------------------------
  if(model_MAX_POSITIONS AND model_MAX_POSITIONS LESS positions)
    set(positions ${model_MAX_POSITIONS})
  endif()
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/mtp_models_of_${target}")
  file(CONFIGURE OUTPUT "${folder}/mtp_models/${model_NAME}.hpp" @ONLY CONTENT
[[// The model @model_NAME@, written by mtp_add_model from its config.json.
#pragma once

#include <mtp/io/pretrained/families.hpp>
#include <mtp/model/model_config.hpp>

namespace mtp_models {

/// Its type.
inline constexpr mtp::model_config @model_NAME@{
    .vocab_size = @vocab_size@,
    .hidden_size = @hidden_size@,
    .num_hidden_layers = @layers@,
    .max_position_embeddings = @positions@,
    .rms_norm_eps = @epsilon@,
    .attention = {@attention@,
                  .rope_theta = @rope_theta@,
                  .rope_scaling = {@scaling@},
                  .partial_rotary_factor = @partial@,
                  .qkv_bias = @qkv_bias@,
                  .qk_norm = @qk_norm@,
                  .post_norm = @post_norm@@latent_sizes@},
    .feed_forward = {@feed_forward@},
    .prediction = {@prediction@},
    .tie_word_embeddings = @tie@};

/// The names of its tensors.
inline constexpr const mtp::io::family_names& @model_NAME@_family = mtp::io::@family@;

/// SHA-256 of config.json.
inline constexpr const char* @model_NAME@_sha256 = "@checksum@";

}  // namespace mtp_models
]])
  target_include_directories(${target} PRIVATE "${folder}")
endfunction()
