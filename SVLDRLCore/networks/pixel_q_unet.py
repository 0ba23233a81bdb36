"""The U-Net of PixelDRL-MG's relatives: what each action is worth at each pixel (Q), or a policy and a value.

With 32 channels at full resolution, five levels and one structure, Q has 7.8 million parameters, as in the paper's
Table 2, and policy and value on one encoder 10.9 million (there 10.82).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from SVLDRLCore.config.settings import Config, NetworkConfig
from SVLDRLCore.networks.pixel_episodes import EpisodeNetwork, EpisodeSettings, settings_of_network
from SVLDRLCore.networks.pixel_layers import Neighbourhood, PixelHead
from SVLDRLCore.networks.unet import UNetDecoder, UNetEncoder


@dataclass(frozen=True)
class QNetworkSettings(EpisodeSettings):
    """The episode, and what the U-Net tells."""

    heads: Literal["q", "dueling", "policy_and_value"] = "q"
    """Q of each action; V and advantages of each action (dueling); or policy and value."""


class PixelQUNet(EpisodeNetwork):
    """A U-Net on the image, once an episode; the mask joins in its heads' last layer.

    Args:
        settings: the episode and the heads.
        net: sizes of the U-Net.
        channels: M.
        structures: C.
        nested: see `EpisodeNetwork`.
    """

    def __init__(
        self, settings: QNetworkSettings, net: NetworkConfig, channels: int, structures: int, nested: bool = False
    ) -> None:
        super().__init__(settings, structures, nested)
        self.heads = settings.heads
        self.encoder = UNetEncoder(channels, net.feature_size, net.levels, dimensions=2)
        self.decoder = UNetDecoder(self.encoder.channels, "full", dimensions=2)
        sizes = (self.decoder.out_channels, self.decoder.out_channels)
        self.action_head = PixelHead(*sizes, structures * settings.action_count, structures)
        if self.heads == "policy_and_value":
            self.value_decoder = UNetDecoder(self.encoder.channels, "full", dimensions=2)
        if self.heads != "q":
            self.value_head = PixelHead(*sizes, structures, structures)
        self.neighbourhood = Neighbourhood(1)

    def look(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(image)
        found = self.decoder(features)
        if self.heads == "q":
            return self.action_head.look(found), None
        judged = self.value_decoder(features) if self.heads == "policy_and_value" else found
        return self.action_head.look(found), self.value_head.look(judged)

    def preferences(self, seen: tuple[Tensor, Tensor | None], mask: Tensor) -> Tensor:
        """Q, or the policy's logits, (B, C, A, H, W)."""
        found, judged = seen
        told = self.action_head(found, mask).unflatten(1, (self.structures, -1))
        if self.heads == "dueling" and judged is not None:  # Wang 2016, eq. 9
            return self.value_head(judged, mask).unsqueeze(2) + told - told.mean(2, keepdim=True)
        return told

    def actor_and_critic(self, seen: tuple[Tensor, Tensor | None], mask: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's logits (B, C, A, H, W) and V (B, C, H, W)."""
        judged = seen[1]
        if judged is None:
            raise ValueError("this network has no critic")
        return self.preferences(seen, mask), self.value_head(judged, mask)


def pixel_q_unet_of(config: Config, channels: int, out_channels: int, image_agents: bool = False) -> PixelQUNet:
    """The network of that backbone (see `network_building.BUILDERS`)."""
    nested = bool(config.data.regions)
    settings: Any = settings_of_network(config, QNetworkSettings)
    return PixelQUNet(settings, config.network, channels, out_channels - (not nested), nested)
