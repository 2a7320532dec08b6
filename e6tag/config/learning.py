"""Options of the command that makes a model: train."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from e6tag.config.base import JobConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig(JobConfig):
    """Train a tagger on shards.

    Rerun the same command to resume.  Example: python train.py --config configs/demo.toml
    """

    data: Path | None = None
    """folder that download.py wrote (default: data, else the demo's)"""
    run: Path = Path("runs/default")
    """folder for checkpoints, metrics and the finished model"""
    backbone: str = "efficientnet-lite0"
    """feature network: efficientnet-lite0, -lite1 or -lite2 (ImageNet weights, a download of 17, 20
    or 23 MB, once), resnet (from scratch, no download), efficientnetv2-b0 to -b2, mobilenetv3-small
    or -large, or keras:NAME for a model of keras.applications"""
    depth: tuple[int, ...] = (2, 2, 2, 2)
    """resnet only: residual blocks in each stage"""
    width: int = 32
    """resnet only: channels of the first stage's 3x3 convolutions; doubled by each stage"""
    block: Literal["basic", "bottleneck"] = "basic"
    """resnet only: two 3x3 convolutions, or 1x1, 3x3 and 1x1 with four times the channels"""
    filters: tuple[int, ...] = ()
    """resnet only: channels that each stage puts out, instead of those that follow from --width"""
    max_stride: int = 0
    """resnet only: stages halve the map while its stride stays within this (32 leaves 7x7 cells of
    224 pixels); 0: all after the first do"""
    stem: Literal["d", "plain"] = "d"
    """resnet only: ResNet-D's three small convolutions and averaged shortcuts, or the first
    ResNet's one large convolution and strided shortcuts"""
    activation: Literal["silu", "relu"] = "silu"
    """resnet only: after each normalisation"""
    channel_attention: Literal["none", "se", "eca"] = "none"
    """resnet only: squeeze-and-excitation, or efficient channel attention (nearly free)"""
    weights: Literal["imagenet", "none"] | None = None
    """what the backbone starts from (default: imagenet for efficientnet-lite, else none)"""
    freeze: int = 0
    """keep this many first stages of the backbone as they are: quicker"""
    image_size: int = 96
    """side of the square pictures are fitted into, in pixels"""
    progressive: float = 1.0
    """begin with pictures of this share of the size; a third of the epochs later larger ones"""
    vector_size: int = 0
    """length of the vector between the stem and the tags; 0: what pooling makes, as it is (shorter
    ones are quicker to search, and tag less well)"""
    pooling: Literal["attention", "ml-decoder", "mean"] = "mean"
    """beside the feature map's mean: attention of its cells to each other, or of fixed queries to
    its cells (each makes a part of the vector), or nothing"""
    join: Literal["concat", "sum"] = "concat"
    """attention pooling only: put the mean and what attention found side by side, or add them"""
    pooled_stages: int = 0
    """means of what so many stages before the last put out are part of the vector, too"""
    queries: int = 16
    """ml-decoder only: queries"""
    heads: int = 4
    """attention heads over the feature map; 0 pools without attention"""
    key_size: int = 32
    """channels of each attention head"""
    rank: int = 0
    """tags are computed from this many numbers of the vector's, shared by all, where it is shorter:
    for 10,000s of tags; 0 for the full layer"""
    factors: int = 8
    """latent factors of the correlated label noise; 0 keeps the per-tag part only"""
    heteroscedastic: bool = False
    """input-dependent label noise; without it the head is a plain linear layer"""
    noise: Literal["tags", "vector"] = "tags"
    """where the label noise is: in each tag, or in the vector (for 10,000s of tags: its parameters
    do not grow with them)"""
    learn_temperature: bool = False
    """vector noise only: train the temperature, from half to one and a half of --temperature"""
    temperature: float = 1.0
    """divides the noisy logits before the sigmoid"""
    likelihood: Literal["marginal", "joint"] = "marginal"
    """joint trains all tags of a picture together: correlation counts; needs --loss bce"""
    factor_samples: int = 16
    """joint likelihood: draws of the factors for each picture and step; memory grows with them"""
    loss: Literal["bce", "focal-robust", "focal", "robust", "asl", "hill", "splc"] = "bce"
    """cross-entropy, focal in the adaptive robust loss, either alone, three for missing labels"""
    reduction: Literal["sum", "mean"] = "sum"
    """over a picture's tags; a mean needs sgd to have rates as many times as large as there are
    tags"""
    focal_alpha: float = 0.25
    """focal loss: weight of positives (negatives have one minus this); -1 weighs both alike"""
    focal_gamma: float = 2.0
    """focal loss: how fast well-predicted tags fade"""
    asl_gamma_positive: float = 0.0
    """asl: how fast well-predicted positives fade"""
    asl_gamma_negative: float = 4.0
    """asl: how fast well-predicted negatives fade"""
    asl_margin: float = 0.05
    """asl: negatives of a probability up to this cost nothing"""
    splc_epochs: int = 1
    """splc: passes over the pictures before predictions may correct labels"""
    splc_threshold: float = 0.6
    """splc: a tag that a picture lacks counts as forgotten above this probability"""
    optimizer: Literal["adamw", "sgd", "nesterov", "lamb", "lion", "muon"] = "adamw"
    """sgd and nesterov cycle their momentum inversely to a one-cycle rate; the others have decay"""
    learning_rate: float = 1e-3
    """largest rate of the schedule; --find-rate proposes one"""
    backbone_rate: float = 1.0
    """learning rate of a pretrained backbone, relative to the head's"""
    weight_decay: float = 0.02
    """decoupled decay, times the learning rate (not for sgd and nesterov)"""
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    """learning rate over the run; cosine rises along a line and falls to 0"""
    warmup: float = 0.3
    """share of the run in which the rate of one-cycle or cosine rises"""
    div_factor: float = 25.0
    """one-cycle: largest rate, divided by the first one"""
    final_div_factor: float = 1e4
    """one-cycle: first rate, divided by the last one"""
    momentum: tuple[float, float] = (0.85, 0.95)
    """sgd and nesterov with one-cycle: momentum at the largest rate, and at both ends"""
    anneal: Literal["cosine", "linear", "cosine-annihilate", "linear-annihilate"] = "cosine"
    """form of one-cycle; annihilate: falls as fast as it rose, then on to nothing"""
    ema: float = 0.99
    """decay of the averaged weights that are validated and exported; 0 for none"""
    clip_norm: float = 5.0
    """largest global norm of a step's gradient; 0 for none"""
    batch_size: int = 32
    """pictures in a step"""
    batch_parts: int = 1
    """compute a batch in equal parts side by side, each on a CPU thread; batch statistics are a
    part's; the number of cores is the fastest"""
    accumulate: int = 1
    """steps whose mean gradient makes one update: a larger batch in the same memory"""
    epochs: int = 10
    """passes over the training pictures"""
    minutes: float = 0.0
    """make as many passes as take about so long here, instead of --epochs (steps are timed first);
    0 does not ask"""
    validate_every: int = 1
    """passes between two validations; the last pass is always followed by one"""
    patience: int = 0
    """stop after so many epochs without better validation macro AP; 0 never does"""
    flip: bool = True
    """mirror pictures at random, unless a tag of theirs is direction-sensitive"""
    crop: float = 0.7
    """smallest share of a picture's area that random crops keep; 1 for none"""
    colour_jitter: float = 0.0
    """largest relative change of brightness, contrast and saturation at random; 0 for none"""
    trivial_augment: bool = False
    """one random operation a picture: shear, rotation, contrast ... (colours may change, too)"""
    mixup: float = 0.0
    """blend pairs of pictures and labels at a share from Beta(A, A); 0 for none"""
    cutmix: float = 0.0
    """paste a box of another picture, of a share from Beta(A, A); 0 for none"""
    repeat_factor: float = 0.0
    """repeat pictures with tags rarer than this share, by sqrt(T / share); 0 for none"""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """gpu fails where there is none; auto takes one where there is"""
    devices: int = 1
    """GPUs that share each batch, 0 for all (tried with a CPU as several devices, not with GPUs);
    the result is that of one, to rounding; joint likelihood: each draws the same factors"""
    mixed_precision: bool = False
    """float16 on a GPU (not tested: no GPU was at hand)"""
    workers: int = 2
    """threads that decode pictures"""
    checkpoint_seconds: float = 60.0
    """save a checkpoint to resume from at least this often"""
    dry_run: bool = False
    """print parameters, cost, memory and hours of what would be trained; train nothing"""
    memory_gb: float = 0.0
    """refuse a step that would need more memory than the card has; 0 does not ask"""
    find_rate: bool = False
    """only try rising learning rates, write lr_range.csv and .png, propose one"""
    json: bool = False
    """print the final metrics as JSON on stdout"""
    seed: int = 0
    """fixes the initial weights, the order and the augmentation"""
