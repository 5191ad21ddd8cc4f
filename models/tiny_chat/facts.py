"""What the tiny model knows of the world: tables of words and facts. Owns data, decides nothing."""

from __future__ import annotations


def _entries(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLOURS = {
    "blue": "the sky|the sea|a sapphire|a blueberry|a pair of jeans",
    "green": "grass|a frog|a lime|a leaf|broccoli|an emerald|a cucumber|a crocodile|a pea",
    "yellow": "the sun|a banana|a lemon|a canary|a sunflower|corn|butter",
    "red": "blood|a tomato|a ruby|a strawberry|a fire engine|a cherry|a ladybird",
    "white": "snow|milk|a swan|salt|a polar bear|flour|rice|a sheep",
    "black": "coal|a raven|night|a panther|tar|ink",
    "orange": "a carrot|a pumpkin|an orange|a tiger|a tangerine",
    "brown": "chocolate|coffee|wood|soil|a chestnut|bread",
    "grey": "an elephant|ash|a mouse|a dolphin|a rain cloud|concrete",
    "pink": "a flamingo|a pig|bubble gum",
    "purple": "a plum|lavender|an aubergine",
}

CAPITALS = dict(
    pair.split(":")
    for pair in _entries(
        "France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|Austria:Vienna|Greece:Athens|"
        "Poland:Warsaw|Norway:Oslo|Sweden:Stockholm|Finland:Helsinki|Denmark:Copenhagen|Ireland:Dublin|"
        "Iceland:Reykjavík|Hungary:Budapest|Belgium:Brussels|Switzerland:Bern|Czechia:Prague|Croatia:Zagreb|"
        "Romania:Bucharest|Bulgaria:Sofia|Serbia:Belgrade|Ukraine:Kyiv|Turkey:Ankara|Egypt:Cairo|"
        "Morocco:Rabat|Kenya:Nairobi|Ghana:Accra|Senegal:Dakar|Japan:Tokyo|China:Beijing|India:New Delhi|"
        "Thailand:Bangkok|Vietnam:Hanoi|Nepal:Kathmandu|Iran:Tehran|Iraq:Baghdad|Canada:Ottawa|"
        "Mexico:Mexico City|Brazil:Brasília|Chile:Santiago|Peru:Lima|Cuba:Havana|Colombia:Bogotá|"
        "Argentina:Buenos Aires|Australia:Canberra|Russia:Moscow|England:London"
    )
)

OPPOSITES = tuple(
    pair.split(":")
    for pair in _entries(
        "hot:cold|big:small|up:down|left:right|day:night|happy:sad|fast:slow|old:young|open:closed|full:empty|"
        "wet:dry|hard:soft|light:dark|high:low|rich:poor|strong:weak|early:late|good:bad|clean:dirty|"
        "loud:quiet|near:far|long:short|thick:thin|wide:narrow|true:false|first:last|always:never|"
        "inside:outside|above:below|before:after|win:lose|push:pull|begin:end|love:hate|sweet:sour|"
        "brave:afraid|heavy:weightless|buy:sell|give:take|start:stop|awake:asleep|alive:dead|deep:shallow"
    )
)

# Of each animal: sound, legs, young, home and emoji.
ANIMALS = {
    row.split(":")[0]: tuple(row.split(":")[1:])
    for row in _entries(
        "dog:woof:four:puppy:kennel:🐶|cat:meow:four:kitten:house:🐱|cow:moo:four:calf:barn:🐮|"
        "pig:oink:four:piglet:sty:🐷|sheep:baa:four:lamb:field:🐑|horse:neigh:four:foal:stable:🐴|"
        "duck:quack:two:duckling:pond:🦆|hen:cluck:two:chick:coop:🐔|lion:roar:four:cub:savanna:🦁|"
        "bear:growl:four:cub:cave:🐻|frog:ribbit:four:tadpole:pond:🐸|bee:buzz:six:larva:hive:🐝|"
        "owl:hoot:two:owlet:tree:🦉|wolf:howl:four:pup:den:🐺|mouse:squeak:four:pup:hole:🐭|"
        "snake:hiss:no:snakelet:burrow:🐍|goat:bleat:four:kid:shed:🐐|donkey:hee-haw:four:foal:stable:🫏|"
        "goose:honk:two:gosling:pond:🪿|monkey:ooh ooh:two:infant:jungle:🐵|fox:yip:four:cub:den:🦊|"
        "tiger:roar:four:cub:jungle:🐯"
    )
}

EMOJI = dict(
    pair.split(":")
    for pair in _entries(
        "sun:☀️|heart:❤️|star:⭐|apple:🍎|tree:🌳|house:🏠|rocket:🚀|car:🚗|fish:🐟|flower:🌸|moon:🌙|fire:🔥|"
        "rainbow:🌈|cake:🎂|ball:⚽|banana:🍌|smile:😀|boat:⛵|train:🚂|bird:🐦"
    )
)

TRANSLATIONS = {
    "French": "bonjour|merci|oui|non|au revoir",
    "German": "hallo|danke|ja|nein|auf Wiedersehen",
    "Spanish": "hola|gracias|sí|no|adiós",
    "Italian": "ciao|grazie|sì|no|arrivederci",
    "Portuguese": "olá|obrigado|sim|não|adeus",
    "Greek": "γεια|ευχαριστώ|ναι|όχι|αντίο",
    "Japanese": "こんにちは|ありがとう|はい|いいえ|さようなら",
    "Polish": "cześć|dziękuję|tak|nie|do widzenia",
}
TRANSLATED_WORDS = ("hello", "thank you", "yes", "no", "goodbye")

DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

NAMES = _words(
    "Anna Ben Clara David Emma Felix Grace Hugo Ida Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tom Vera "
    "Lucy Max Nina Oscar Peter Ruth Simon Tina Alice Bob Carol Dan Eva Frank Helen Ivan Julia Karl Laura "
    "Mark"
)
WORDS = _words(
    "apple river stone bread cloud light water green house table music paper snow wind fire tree bird fish "
    "dog cat moon star sun sea hill road boat train lamp door book chair clock glass spoon plate milk salt "
    "sugar honey grass leaf rain night day morning winter summer red blue yellow white black happy quiet "
    "small big warm cold fast slow new old kind brave soft round sweet bright garden window kitchen bridge "
    "forest mountain island castle market school letter number circle square silver gold"
)

STORY_HEROES = tuple(ANIMALS) + (_words("robot girl boy king queen dragon bird rabbit knight wizard"))
STORY_TRAITS = _words("brave small kind clever happy quiet hungry lonely curious gentle")
STORY_PLACES = _entries(
    "near the park|in a dark forest|by the sea|on a high hill|in a little house|under a bridge|"
    "in an old castle|beside a river"
)
STORY_OBJECTS = _entries(
    "a warm hat|a red ball|a golden key|a big cake|a lost letter|a shiny stone|a little boat|an old map|"
    "a blue lamp|a wooden box"
)
STORY_FRIENDS = _words("owl duck mouse bear frog hen goat horse bee cat")

UNKNOWN_TOPICS = _entries(
    "quantum physics|black holes|the stock market|football|chess|politics|the Roman Empire|jazz|Mozart|"
    "Shakespeare|philosophy|chemistry|biology|medicine|the law|economics|religion|opera|poetry|painting|"
    "dinosaurs|volcanoes|the ocean floor|the Olympic Games|tennis|cricket|basketball|yoga|fashion|cars|"
    "aeroplanes|submarines|electricity|magnets|lasers|atoms|molecules|DNA|vaccines|vitamins|algebra|"
    "geometry|calculus|statistics|history|geography|archaeology|psychology|sociology|architecture|"
    "photography|cinema|theatre|dancing|knitting|cooking|pizza|sushi|wine|cheese|gardening|fishing|"
    "camping|skiing|surfing|sailing|Napoleon|Einstein|Newton|Darwin|Cleopatra|Aristotle|Plato|Beethoven|"
    "Picasso|Columbus|Marie Curie|Leonardo|the moon landing|the pyramids|the Great Wall|gravity|"
    "relativity|evolution|climate change|photosynthesis|blockchain|bitcoin|compilers|operating systems|"
    "cryptography|the internet|satellites|telescopes|Saturn|Jupiter|Mars|comets|galaxies|inflation|taxes|"
    "insurance|banking|elections|democracy|linguistics|Latin|grammar|novels|comics|magic tricks"
)
