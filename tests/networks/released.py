"""Our networks filled with the golden rule's weights, by way of the released names."""

from golden.rules import released_state

from ttrd3.networks.model import TTRD3
from ttrd3.released.keys import texture_net_state, unet_state

VARIANTS = {"1Net-A": "1net_a", "1Net-B": "1net_b", "2Net": "2net"}


def released_model(variant: str = "1Net-A") -> TTRD3:
    """The released behaviour of `variant`; K is the golden arg max + 1."""
    model = TTRD3.from_options(
        {"type": "MFAB", "block": "released", "value_range": "released"},
        {"type": "STTG", "selection": "fixed", "matches": [4, 3, 1], "normalization": "released"},
        {"type": variant},
        outputs=2,
    )
    texture_net, _ = texture_net_state(released_state("refnet"))
    unet, _ = unet_state(released_state(f"model:{VARIANTS[variant]}"))
    model.load_state_dict(texture_net | unet, strict=True)
    return model.eval()
