"""ZeTT: a trained hypernetwork predicts the rows of any tokenizer, without seeing text of it.

Source: Minixhofer et al. 2024, "Zero-Shot Tokenizer Transfer", https://arxiv.org/abs/2405.07883
Differs from the source: see `jeton.transfer.hypernetwork` and `jeton.transfer.zett_training`; the
bias of an output layer is the mean of its parts.
Cost: one small forward per new token; the network is trained once per base model.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.embeddings import side_by_side
from jeton.transfer.hypernetwork import network_for
from jeton.transfer.matching import match_tokens
from jeton.transfer.rows import compose


@dataclass(frozen=True, slots=True)
class Zett:
    """Options.

    Attributes:
        hypernetwork: Folder of a network trained for the source model or for its base; empty
            takes the one that comes with jeton, for the starter model and its fine-tunes.
    """

    hypernetwork: str = ""

    copies_shared: ClassVar[bool] = True
    needs_model: ClassVar[bool] = False

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        num_used = inputs.source.vocab_size
        output = inputs.output_embeddings
        rows = side_by_side(
            inputs.input_embeddings[:num_used], None if output is None else output[:num_used]
        )
        network = network_for(inputs.source, rows.shape[1], self.hypernetwork)
        matches = match_tokens(inputs.source, inputs.destination)
        result = compose(inputs, matches, {})
        new = [i for i, match in enumerate(matches) if not match.is_shared and match.source_ids]
        if not new:
            return result
        made = network.predict(rows, [matches[i].source_ids for i in new])
        hidden = inputs.input_embeddings.shape[1]
        new_input = result.input_embeddings.clone()
        new_input[torch.tensor(new)] = made[:, :hidden].to(new_input.dtype)
        new_output = result.output_embeddings
        if new_output is not None:
            new_output = new_output.clone()
            new_output[torch.tensor(new)] = made[:, hidden:].to(new_output.dtype)
        return replace(result, input_embeddings=new_input, output_embeddings=new_output)
