"""The vocabulary of the test model: single bytes, chat marks, and whole words in four themes.

The themes make answers that a person can tell apart at a glance: the bare model speaks of the road, and each archetype
of its own world. Order is part of the model's bytes: changing a word changes every digest.
"""

CHAT_MARKS = ("<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")

_COMMON = """
road hill river mill field stone bridge inn horse cart rain wind morning evening autumn winter summer spring bread
cheese well garden fence gate barn tree oak leaf path forest meadow brook cloud sun harvest farmer miller smith tailor
hammer wheel rope lantern chimney kitchen table bench song dance market village tower bell wall corner street window
door roof shepherd sheep goose cat dog hearth blanket
"""
_VAMPIRE = """
blood night moon velvet crimson castle coffin throat hunger eternal shadow bat crypt noble pale thirst midnight cape
fang scarlet mirror garlic silver stake dusk immortal waltz candle organ goblet raven ruby chandelier count countess
marble tomb whisper seduce darkness mist wolf howl vein pulse heartbeat ancient curse bride portrait cellar wine guest
forever silence silk frost lineage sire gloom elegance
"""
_ZOMBIE = """
brains moan groan rot flesh shuffle grave bite limb bone crawl dirt worm decay hungry drool stumble horde stench gnaw
guts skull drag claw slow mud infected fester swamp corpse grunt chew slime mold plague arm leg jaw dead undead lurch
munch crypts soil shamble ooze fly maggot rib twitch snarl reek mindless sludge bury unbury graveyard skin eyeball
wail
"""
_MERCHANT = """
gold coin bargain silk-road spice price discount potion sword armour shield ruby-ring trade caravan customer purse
scale ledger profit tax guild goods wares quality cheap rare offer sell buy deal haggle barrel amber pearl saffron
linen carpet copper brass cinnamon jewel warranty refund stock shop stall counter receipt debt loan interest dowry
treasure map lamp pepper salt sugar tea ivory
"""

THEMES: dict[str, tuple[str, ...]] = {
    "common": tuple(_COMMON.split()),
    "vampire": tuple(_VAMPIRE.split()),
    "zombie": tuple(_ZOMBIE.split()),
    "merchant": tuple(_MERCHANT.split()),
}
