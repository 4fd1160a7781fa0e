"""What fills the memory at the highest point of a run, part by part: of training, or of another stage that takes more.

Each stage gives back what it took before the next one begins; audit and report take less than training did.

The activations are counted tensor by tensor as the room models keeps them for its backward pass; a test holds the
count to what autograd really keeps. Two parts are measured, not derived: what Python and torch take before any
tensor, and what the allocator holds beyond the tensors that live.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from ..data import Manifest
from ..data.batches import CACHED_BYTES
from ..hardware import Hardware, Precision
from ..models import HubConfig, ImageConfig, NgramConfig, RnnConfig, TransformerConfig, stored_config
from ..privacy.cost import prefers_dense
from ..recipe import Recipe, Train
from ..tasks import task_named
from ..train.parts import Part, drawn_parts, typical_parts
from . import images, rnn
from .cost import (
    block_matrices,
    block_matrix_parameters,
    coded_bytes,
    coded_parameters,
    computed_logits,
    learned_parameters,
    optimizer_bytes,
)
from .preparation import DIGITS_BYTES, LOADED_BYTES, TORCH_BYTES, preparation_items

MIB = 2**20
KERNEL_BYTES = 34 * MIB  # of torch's code and its kernels, which are loaded and prepared at the first step
COMPILER_BYTES = 180 * MIB  # of torch's compiler, where blocks are compiled
CHECKPOINTING_BYTES = 72 * MIB  # the same, loaded alone, as activation checkpointing does
SHAPES_BYTES = 110 * MIB  # what torch's kernels keep for shapes, where rows of many widths have many
HUB_BYTES = 160 * MIB  # transformers and peft, and torch's compiler, which they load
TOKENIZER_BYTES = (
    18 * MIB
)  # of what learning and using a bpe vocabulary leaves, the gaps that training cannot fill
# Of the libraries that score answers: ROUGE's loads nltk, and that what there is of scikit-learn.
SCORING_BYTES = {"rouge_score": 166 * MIB, "sacrebleu": 8 * MIB}
LORA_COPIES = 6  # of a matrix's output: its own, what its adapter says, and their sum, forward and back
# Of the weights of a model of transformers: with what LoRA learned added to them, and as the bytes of a file. Ours are merged in place, and
# written as they lie (docs/lab-notes.md).
MERGED_COPIES = 2
TAUGHT_COPIES = 3  # of the logits, in float32
UNIT_COPIES = 3  # of the gradient of each n-gram of a unit, while its rows are added up
NOISE_BYTES = 20  # of an element of a large parameter: random words, the noisy sum, the sum that begins anew
ACCOUNTANT_LEFT_BYTES = 60 * MIB  # of what the library that computes ε took; training uses the rest again
CUDA_CONTEXT_BYTES = 600 * MIB
# What the allocator holds beyond live tensors, as a share of what each step takes and gives back: 0.29 to 0.42 in twelve real runs; on a GPU
# 0.10 and 0.11 in two.
SLACK, LEAST_SLACK, MOST_SLACK = {"cpu": 0.4, "cuda": 0.12}, 0.0, 0.8
CODED_SLACK = 0.4  # more, on a CPU, beside a quantised base: floats of a matrix come and go between them (six runs, docs/lab-notes.md)
PASSING_SHARE = 0.15  # the same of one device among several, of all that it holds
PROCESS_SPREAD = 50 * MIB
OTHERS_SPREAD = (0.8, 1.3)
RNN_SPREAD = 0.4  # of what a recurrent step takes and gives back
COUNTING_BYTES = 40 * MIB  # a piece of the training split on its way into the bigram
PAIR_BYTES, PAIRS_POWER = (
    25,
    0.9,
)  # of a pair that the bigram knows; a split has about this power of its tokens
# In bf16 on CPUs, models.functions computes attention by matrix products up to this context.
LONGEST_PRODUCT = 512


@dataclass(frozen=True)
class Interval:
    """A prediction: low and high hold the truth nearly always, expected is the best guess."""

    low: float
    expected: float
    high: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, by part.

    Attributes:
        items: what is there at the peak; the parts add up to `peak.expected`.
        peak: with its interval.
    """

    items: dict[str, int]
    peak: Interval


Held = Callable[[dict[str, int]], dict[str, int]]
Config = TransformerConfig | ImageConfig | RnnConfig


def peak_memory(
    recipe: Recipe, config: Config, hardware: Hardware, manifest: Manifest, held: Held | None = None
) -> Memory:
    """Memory at the highest point of a run.

    Args:
        recipe: with batch size, micro batch and precision filled in.
        config: the model.
        hardware: says which device's memory is counted: the GPU's, or that of this process.
        manifest: of the prepared data, or as it is guessed.
        held: what one device among several holds of the parts.
    """
    if isinstance(config, RnnConfig):
        training = _of_recurrent_training(recipe, config, manifest)
    else:
        training = _of_training(recipe, config, hardware, manifest, held)
    if hardware.device == "cuda" and not isinstance(config, RnnConfig):
        return training
    around = _of_the_process(recipe, config, manifest)
    bigram = bigram_bytes(manifest) if config.output == "tokens" else 0
    scoring = sum(SCORING_BYTES.get(library, 0) for library in task_named(recipe.task).libraries)
    evaluating = {"weights": 4 * config.parameters, "bigram": bigram, "scores": scoring} | around
    evaluating["shapes"] = _of_shapes(recipe, config, manifest)
    others = [preparation_items(recipe, manifest), evaluating]
    fullest = max(others, key=lambda items: sum(items.values()))
    total = sum(fullest.values())
    if total <= training.peak.expected:
        return training
    low, high = (share * total for share in OTHERS_SPREAD)
    peak = Interval(max(training.peak.low, low), total, max(training.peak.high, high))
    return Memory({name: size for name, size in fullest.items() if size}, peak)


def _of_training(
    recipe: Recipe,
    config: TransformerConfig | ImageConfig,
    hardware: Hardware,
    manifest: Manifest,
    held: Held | None,
) -> Memory:
    lora = recipe.train.lora
    states = {
        "weights": 4 * (config.parameters - coded_parameters(config, lora)),
        "quantised base": coded_bytes(config, lora),
        "optimizer": optimizer_bytes(config, recipe.train),
    }
    if recipe.train.distill is not None:
        states["teacher"] = 4 * stored_config(recipe.train.distill.from_).parameters
    moments, passing = _of_a_step(recipe, config, hardware.device, manifest)
    if lora is not None and held is None and isinstance(config, HubConfig):
        coded = coded_parameters(config, lora)
        if not coded:
            moments.append({"merged and written": MERGED_COPIES * 4 * config.parameters})
        elif hardware.device == "cpu":
            moments.append({"floats that become codes": 4 * coded})
    each = [(held or dict)(states | parts) for parts in moments]
    items = max(each, key=lambda parts: sum(parts.values()))
    if held is not None:
        passing = round(PASSING_SHARE * sum(items.values()))
    if hardware.device == "cuda":
        around, spread = {"CUDA context": CUDA_CONTEXT_BYTES}, CUDA_CONTEXT_BYTES // 2
    else:
        around, spread = _of_the_process(recipe, config, manifest), PROCESS_SPREAD
        around["shapes"] = _of_shapes(recipe, config, manifest)
    items |= around
    if recipe.privacy is not None and hardware.device != "cuda":
        items["accountant"] = ACCOUNTANT_LEFT_BYTES
    live = sum(items.values())
    more = CODED_SLACK if states["quantised base"] and hardware.device == "cpu" else 0.0
    items["allocator"] = round((SLACK[hardware.device] + more) * passing)
    peak = Interval(
        low=live + LEAST_SLACK * passing - spread - items.get("shapes", 0),  # a short run has few of them
        expected=live + items["allocator"],
        high=live + (MOST_SLACK + more) * passing + spread,
    )
    return Memory({name: size for name, size in items.items() if size}, peak)


def _of_recurrent_training(recipe: Recipe, config: RnnConfig, manifest: Manifest) -> Memory:
    items = rnn.step_items(recipe, config)
    passing = sum(items.values())
    items |= _of_the_process(recipe, config, manifest)
    if recipe.privacy is not None:
        items["accountant"] = rnn.ACCOUNTANT_BYTES
    total = sum(items.values())
    spread = round(RNN_SPREAD * passing) + PROCESS_SPREAD
    return Memory(
        {name: size for name, size in items.items() if size}, Interval(total - spread, total, total + spread)
    )


def _of_a_step(
    recipe: Recipe, config: TransformerConfig | ImageConfig, device: str, manifest: Manifest
) -> tuple[list[dict[str, int]], int]:
    """The parts that a step adds at the moments that may be its fullest, and the bytes that it takes and gives back over and over.

    They are when the loss's gradient comes back, before the activations are freed, and the update, when all gradients are
    there and the embedding's is added to the head's.
    """
    if isinstance(config, ImageConfig):
        return _of_a_step_on_images(recipe, config)
    if isinstance(config, NgramConfig):
        return _of_a_step_on_ngrams(recipe, config)
    precision, _ = _filled(recipe)
    parts = typical_parts(recipe, manifest)
    drawn = drawn_parts(recipe, manifest)
    kept, block, logits = max((_of_a_part(part, config, recipe.train, device) for part in drawn), key=sum)
    coded = coded_parameters(config, recipe.train.lora)
    copies = 0 if precision == "fp32" else half_weight_bytes(config) - 2 * coded
    if (
        recipe.train.distill is not None
    ):  # both models' likelihoods in float32, and the gradient of the student's
        logits += TAUGHT_COPIES * logits * 4 // _size(precision)
    outputs = config.head[1]
    gradients = 4 * learned_parameters(config, recipe.train.lora)
    frozen = recipe.train.lora is not None
    embedding = 0 if frozen else config.vocab_size * config.width
    head = 0 if frozen and config.output == "tokens" else outputs * config.width
    head_gradient = head * (4 if precision == "fp32" else 2 + 4)
    at_loss = {
        "activations": kept,
        "logits and head": logits + max(logits, head_gradient),
        "half-precision weights": copies,
    }
    if len(parts) > 1:  # earlier micro batches have left their gradients
        at_loss["gradients"] = gradients
    at_update = {"gradients": gradients + 4 * embedding}
    if frozen:
        widest = max(drawn, key=lambda part: part.rows * part.width)
        at_loss["sums of adapters"] = (
            LORA_COPIES * widest.rows * widest.width * _size(precision) * config.hidden
        )
    if coded:
        largest = max(rows * columns for rows, columns in block_matrices(config))
        at_loss["a matrix in floats"] = (4 + _size(precision)) * largest
    passing = kept + copies + 2 * logits + gradients + at_loss.get("sums of adapters", 0)
    if block:  # beside blocks, arrays go back to the system
        passing = block
    if recipe.privacy is not None:
        of_units = _for_units(recipe, config, device)
        # They come in parts of several heights, which leave gaps of several sizes.
        passing += of_units["gradients of units"]
        if precision == "fp32":  # nothing is converted, and they come where activations and logits go
            of_units["gradients of units"] -= min(of_units["gradients of units"], kept + 2 * logits) // 2
        at_loss |= of_units
    moments = [at_loss, at_update]
    if block:  # each is computed again: beside the last one are the inputs of all, beside the first one all gradients
        one = {"half-precision weights": copies // config.layers}
        at_last = at_loss | one | {"activations": kept + block, "logits and head": 4 * head}
        moments += [at_last, at_last | {"activations": block, "logits and head": 0, "gradients": gradients}]
    return moments, passing


def _of_a_part(part: Part, config: TransformerConfig, train: Train, device: str) -> tuple[int, int, int]:
    """(activations that are kept, those of the block that is computed again, logits) of rows that are computed at once."""
    precision = train.precision
    assert precision != "auto"  # filled in
    as_wide = replace(config, context=part.width)
    logits = computed_logits(part, config) * _size(precision)
    if not train.activation_checkpointing:
        return activation_bytes(as_wide, precision, part.rows, device), 0, logits
    inputs = config.layers * part.rows * part.width * config.width * _stream_size(precision)
    return inputs, activation_bytes(replace(as_wide, layers=1), precision, part.rows, device), logits


def _of_a_step_on_images(recipe: Recipe, config: ImageConfig) -> tuple[list[dict[str, int]], int]:
    """The same of a network for images: its fullest moment is in the backward pass of the first, largest maps."""
    precision, micro_batch = _filled(recipe)
    size = _size(precision)
    kept = micro_batch * config.kept_bytes(size)
    copies = 0 if precision == "fp32" else 2 * block_matrix_parameters(config)
    gradients = 4 * config.parameters
    first = sum(config.widths[:1])  # channels; without stages there are no maps
    coming_back = 2 * micro_batch * size * first * config.height * config.width
    parts = {
        "activations": kept,
        "gradients of activations": coming_back,
        "half-precision weights": copies,
        "gradients": gradients,
    }
    passing = (
        kept + coming_back + copies + gradients
    ) // 2  # malloc hands large maps back to the system at once
    if recipe.privacy is not None:
        parts["gradients of units"] = micro_batch * images.unit_gradient_bytes(config, precision)
        passing += parts["gradients of units"]
    return [parts], passing


def _of_a_step_on_ngrams(recipe: Recipe, config: NgramConfig) -> tuple[list[dict[str, int]], int]:
    """The same of a classifier of n-grams, whose table gets a gradient of its own size however few rows were used."""
    _, micro_batch = _filled(recipe)
    parts = {"n-grams": micro_batch * config.kept_bytes(), "gradients": 4 * config.parameters}
    if recipe.privacy is not None:
        parts["gradients of units"] = micro_batch * UNIT_COPIES * 4 * config.grams * config.width
    passing = sum(parts.values())
    if recipe.privacy is not None:
        parts["noise"] = NOISE_BYTES * config.parameters
    return [parts], passing


def _for_units(recipe: Recipe, config: TransformerConfig, device: str) -> dict[str, int]:
    """What private training holds beside: sums, and the gradients of all units. They grow while activations are given up,
    but malloc keeps what those took in pieces of another size, so that both count."""
    precision, micro_batch = _filled(recipe)
    size, lora = _size(precision), recipe.train.lora
    matrices = list(block_matrices(config))
    if lora is None:
        shapes = [(config.vocab_size, config.width, size)] + [(*matrix, size) for matrix in matrices]
    else:
        shapes = [(rows, lora.rank, size) for rows, _ in matrices]
        shapes += [(lora.rank, columns, size) for _, columns in matrices]
    each = sum(
        unit_gradient_bytes(rows, columns, config.context, size, device) for rows, columns, size in shapes
    )
    return {"gradients": 4 * learned_parameters(config, lora), "gradients of units": micro_batch * each}


def unit_gradient_bytes(rows: int, columns: int, context: int, size: int, device: str) -> int:
    """What one unit's gradient of a matrix takes until the clip is known: an array, or its output's gradient."""
    if prefers_dense(context, rows, columns, device, size):
        return rows * columns * size
    return context * rows * size


def _of_the_process(recipe: Recipe, config: Config, manifest: Manifest) -> dict[str, int]:
    """What the process holds beside the training itself."""
    each = manifest.image.bytes if manifest.image else 2 if config.vocab_size <= 65_536 else 4
    split = manifest.splits["train"].tokens * each
    return {
        "data": split if split <= CACHED_BYTES else 0,
        "tokenizer": TOKENIZER_BYTES if recipe.tokenizer.from_ or recipe.tokenizer.kind == "bpe" else 0,
        **_framework(config),
        "scikit-learn": DIGITS_BYTES if recipe.data.source == "digits" else 0,
        "torch's compiler": _of_the_compiler(recipe.train),
        "transformers": HUB_BYTES if isinstance(config, HubConfig) or recipe.train.lora else 0,
    }


def _of_the_compiler(train: Train) -> int:
    if train.compile:
        return COMPILER_BYTES
    return CHECKPOINTING_BYTES if train.activation_checkpointing and not train.lora else 0  # LoRA's has it


def _of_shapes(recipe: Recipe, config: Config, manifest: Manifest) -> int:
    """In half precision a kernel is made for each shape of a product, and kept; windows of text have one shape."""
    one = isinstance(config, ImageConfig | RnnConfig | NgramConfig) or not (
        manifest.prompted or manifest.labels
    )
    return 0 if one or recipe.privacy is not None or recipe.train.precision == "fp32" else SHAPES_BYTES


def _framework(config: Config) -> dict[str, int]:
    if isinstance(config, RnnConfig):
        return {"Python and TensorFlow": LOADED_BYTES + rnn.KERAS_BYTES}
    return {"Python and torch": LOADED_BYTES + TORCH_BYTES + KERNEL_BYTES}


def bigram_bytes(manifest: Manifest) -> int:
    """What the bigram takes that evaluation compares the model with."""
    pairs: float = min(manifest.vocab_size**2, manifest.splits["train"].tokens ** PAIRS_POWER)
    return round(COUNTING_BYTES + PAIR_BYTES * pairs)


def half_weight_bytes(config: TransformerConfig) -> int:
    """The half-precision copies of all matrices that autocast keeps from forward to backward."""
    return 2 * (block_matrix_parameters(config) + config.head[1] * config.width)


def activation_bytes(config: TransformerConfig, precision: Precision, micro_batch: int, device: str) -> int:
    """Bytes that the forward pass keeps for the backward pass, without logits and copies of weights.

    Args:
        config: the model.
        precision: of the matrix products. In bf16 the stream is bf16 too; in fp16 it stays float32, and each product
            keeps its own fp16 copy of its input.
        micro_batch: sequences computed at once.
        device: "cpu" or "cuda"; attention is computed differently.
    """
    size = _size(precision)
    width, hidden = config.width, config.hidden
    attention, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    # A token's numbers in one block: the two norms' inputs (the stream); their outputs, which the products keep; the
    # inputs of the norms of queries and keys; gate, its activation, up, and their product.
    stream = 2 * width
    normed = 2 * width if precision != "fp16" else 5 * width
    projected = attention + kv
    gated = 4 * hidden
    if device == "cpu" and isinstance(config, HubConfig) and config.drops_attention:
        # torch's products in float32: query, key and value; the weights, what was dropped of them, and what is left
        attended, sums = 0, 4 * (3 * attention + 3 * config.heads * config.context)
    elif by_products(
        config, precision, device
    ):  # query, and key and value for every head; the weights; the result
        attended = 4 * attention + config.heads * config.context
        sums = 0
    else:  # query, key, value and result; one float32 sum for each head
        attended = 2 * attention + 2 * kv
        sums = 4 * config.heads
    scales = 4 * (2 + config.heads + config.kv_heads)  # a float32 for each norm
    stream_size = _stream_size(precision)
    block = stream_size * stream + size * (normed + projected + attended + gated) + scales + sums
    last = stream_size * width + size * width + 4
    return micro_batch * config.context * (config.layers * block + last)


def by_products(config: TransformerConfig, precision: Precision, device: str) -> bool:
    """Whether our own attention keeps its weights: bf16 on a CPU, for contexts up to LONGEST_PRODUCT."""
    own = not isinstance(config, HubConfig)
    return own and device == "cpu" and precision == "bf16" and config.context <= LONGEST_PRODUCT


def _stream_size(precision: Precision) -> int:
    return 2 if precision == "bf16" else 4


def _size(precision: Precision) -> int:
    return 4 if precision == "fp32" else 2


def _filled(recipe: Recipe) -> tuple[Precision, int]:
    precision, micro_batch = recipe.train.precision, recipe.train.micro_batch
    assert precision != "auto" and micro_batch != "auto"  # resolve.fill_in came first
    return precision, micro_batch
