"""The checker of the convolutional network accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from . import Changes

POOL_FIRST = [
    ("        nn.ReLU(),\n        nn.MaxPool2d(2),\n", "        nn.MaxPool2d(2),\n        nn.ReLU(),\n")
]
SAME = [("3, padding=1", '3, padding="same"')]
CLEAR_LATER = [
    ("        optimizer.zero_grad()\n", ""),
    ("optimizer.step()\n", "optimizer.step()\n        optimizer.zero_grad()\n"),
]
LOG_SOFTMAX = [
    ("        nn.Linear(128, classes),\n", "        nn.Linear(128, classes),\n"),
    ("F.cross_entropy(model(images), labels)", "F.nll_loss(F.log_softmax(model(images), 1), labels)"),
]


RIGHT: dict[str, Changes] = {
    "pool": POOL_FIRST,
    "same": SAME,
    "clear": CLEAR_LATER,
    "nll": LOG_SOFTMAX,
}


HEAD, LOSS = "        nn.Linear(128, classes),\n", "return total / count"
MISTAKES: dict[str, Changes] = {
    "no-module": [("return nn.Sequential(", "return lambda images: nn.Sequential(")],
    "flatten-size": [("32 * (height // 2) * (width // 2)", "32 * 13 * 13")],
    "no-logits": [(HEAD, HEAD + "        _Told(),\n"), ("def train_epoch", "class _Told(nn.Module):\n    def forward(self, x):\n        return x.argmax(1).tolist()\n\n\ndef train_epoch")],
    "logits-shape": [("128, classes)", "128, classes + 1)")],
    "no-pooling": [("        nn.MaxPool2d(2),\n", ""), ("(height // 2) * (width // 2)", "height * width")],
    "other-shapes": [("nn.Linear(32 * (height // 2) * (width // 2), 128)", "nn.Linear(32 * (height // 2) * (width // 2), 64)"), ("nn.Linear(128, classes)", "nn.Linear(64, classes)")],
    "no-relu": [("        nn.ReLU(),\n        nn.MaxPool2d(2),\n", "        nn.MaxPool2d(2),\n"), ("        nn.ReLU(),\n        nn.Linear(128", "        nn.Linear(128")],
    "other-network": [("nn.MaxPool2d(2)", "nn.AvgPool2d(2)")],
    "no-step": [("        optimizer.step()\n", "")],
    "wrong-steps": [("F.cross_entropy(model(images), labels)", 'F.cross_entropy(model(images), labels, reduction="sum")')],
    "loss-type": [("loss.item()", "loss.detach()")],
    "not-divided": [(LOSS, "return total")],
    "loss-value": [(LOSS, "return total / count / 2")],
    "training-mode": [("    model.train()\n", "")],
    "keeps-graph": [("@torch.no_grad()\n", "")],
    "accuracy-type": [("return right / sum(len(labels) for _, labels in batches)", "return torch.tensor(right / sum(len(labels) for _, labels in batches))")],
    "percent": [("return right / ", "return 100 * right / ")],
    "accuracy-of-batches": [("int((model(images).argmax(1) == labels).sum())", "(model(images).argmax(1) == labels).float().mean().item()"), ("sum(len(labels) for _, labels in batches)", "len(batches)")],
    "accuracy-value": [("argmax(1)", "argmin(1)")],
    "no-learning": [("        nn.Conv2d(", "        nn.Dropout(1.0) if height == 8 else nn.Identity(),\n        nn.Conv2d(")],
}  # fmt: skip
